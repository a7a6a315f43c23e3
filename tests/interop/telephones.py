"""Kamailio with our configuration between two SIPp telephones, every message of theirs kept.

A scenario is a list of steps, each an element of SIPp's XML: what a telephone sends, with SIPp's
own keywords in brackets, and what it waits for.
"""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.places import ROOT
from deploy.local.process import Child
from deploy.local.waiting import eventually
from tests.interop.toolchain import program

CONFIG = ROOT / "deploy" / "sip" / "kamailio.cfg"
HOST = "127.0.0.1"

SDP = """
Content-Type: application/sdp
Content-Length: [len]

v=0
o={user} 1 1 IN IP4 [local_ip]
s={user}
c=IN IP4 [local_ip]
t=0 0
m=audio 40000 RTP/AVP 8
"""
NO_BODY = "\nContent-Length: 0\n\n"
# The caller tells its number in every header that SIP has for it.
INVITE = """INVITE sip:{x}@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: "Zhang {a}" <sip:{a}@[local_ip]:[local_port]>;tag=[call_number]
To: <sip:{x}@[remote_ip]:[remote_port]>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:{a}@[local_ip]:[local_port]>
P-Asserted-Identity: <sip:+86{a}@[local_ip]>
P-Preferred-Identity: <tel:+86{a}>
Remote-Party-ID: <sip:{a}@[local_ip]>;party=calling
Diversion: <sip:{a}@[local_ip]>
History-Info: <sip:{a}@[local_ip]>;index=1
Subject: {a} calls
X-Anything: {a}
User-Agent: phone of {a}
{more}Max-Forwards: 70""" + SDP.replace("{user}", "{a}")
# A request of the caller's inside of the call: to where the answer's Contact says.
WITHIN_A = """{method} [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: "Zhang {a}" <sip:{a}@[local_ip]:[local_port]>;tag=[call_number]
[last_To:]
Call-ID: [call_id]
CSeq: {cseq} {method}
Contact: <sip:{a}@[local_ip]:[local_port]>
P-Asserted-Identity: <sip:+86{a}@[local_ip]>
[routes]
Max-Forwards: 70"""
# The ACK of a refusal, and a CANCEL, belong to the request that they follow.
OF_INVITE = (
    """{method} sip:{x}@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch-{steps}]
From: "Zhang {a}" <sip:{a}@[local_ip]:[local_port]>;tag=[call_number]
[last_To:]
Call-ID: [call_id]
CSeq: 1 {method}
Max-Forwards: 70"""
    + NO_BODY
)
REPLY_B = """SIP/2.0 {line}
[last_Via:]
[last_From:]
[last_To:];tag=b[call_number]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:{b}@[local_ip]:[local_port]>
P-Asserted-Identity: <sip:+86{b}@[local_ip]>"""
REPLY = """SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]"""
BYE_B = (
    """BYE [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: [$to];tag=b[call_number]
To: [$from]
Call-ID: [call_id]
CSeq: 7 BYE
P-Asserted-Identity: <sip:+86{b}@[local_ip]>
[routes]
Max-Forwards: 70"""
    + NO_BODY
)


def sends(text: str, more: str = "") -> str:
    """A message that the telephone sends; `more`: attributes."""
    return f"<send {more}><![CDATA[\n{text}\n]]></send>"


def waits(what: str, more: str = "", inner: str = "") -> str:
    """A message that it waits for: a method or a status."""
    kind = "response" if what.isdigit() else "request"
    return f'<recv {kind}="{what}" {more}>{inner}</recv>'


def trying() -> list[str]:
    """What a caller meets before the answer."""
    return [sends(INVITE, 'retrans="500"'), waits("100")]


def follows(method: str, steps: int) -> str:
    """An ACK or CANCEL so many steps after the INVITE, whose branch it has."""
    return sends(OF_INVITE.replace("{method}", method).replace("{steps}", str(steps)))


def ringing() -> list[str]:
    """The same of a call that was let through."""
    return [*trying(), waits("180"), waits("200", 'rrs="true"'), ack(1)]


def ack(cseq: int) -> str:
    return sends(WITHIN_A.replace("{method}", "ACK").replace("{cseq}", str(cseq)) + NO_BODY)


# Kamailio's processes may pass on what comes within microseconds in another order, as UDP may.
A_MOMENT = '<pause milliseconds="100"/>'


def hangs_up() -> list[str]:
    bye = WITHIN_A.replace("{method}", "BYE").replace("{cseq}", "2") + NO_BODY
    return [A_MOMENT, sends(bye, 'retrans="500"'), waits("200")]


def refused(status: int) -> list[str]:
    return [*trying(), waits(str(status)), follows("ACK", 3)]


KEEP = (
    '<action><ereg regexp=".*" search_in="hdr" header="From:" assign_to="from"/>'
    '<ereg regexp="[^;]*" search_in="hdr" header="To:" assign_to="to"/></action>'
)


def answers() -> list[str]:
    """A callee that rings and answers."""
    return [
        waits("INVITE", 'rrs="true"', KEEP),
        sends(REPLY_B.replace("{line}", "180 Ringing") + NO_BODY),
        A_MOMENT,
        sends(REPLY_B.replace("{line}", "200 OK") + SDP.replace("{user}", "{b}"), 'retrans="500"'),
        waits("ACK"),
    ]


def gives_up() -> list[str]:
    """A caller that hangs up while it rings."""
    return [*trying(), waits("180"), follows("CANCEL", 3), waits("200"), waits("487"),
            follows("ACK", 6)]  # fmt: skip


def is_given_up_on() -> list[str]:
    cancelled = REPLY_B.replace("{line}", "487 Request Terminated").replace(
        "[last_CSeq:]", "CSeq: 1 INVITE"
    )
    return [
        waits("INVITE", "", KEEP),
        sends(REPLY_B.replace("{line}", "180 Ringing") + NO_BODY),
        waits("CANCEL"), sends(REPLY + NO_BODY), sends(cancelled + NO_BODY), waits("ACK"),
    ]  # fmt: skip


def is_busy() -> list[str]:
    return [
        waits("INVITE", "", KEEP),
        sends(REPLY_B.replace("{line}", "486 Busy Here") + NO_BODY),
        waits("ACK"),
    ]


def is_hung_up_on() -> list[str]:
    # At the longest talk Kamailio hangs up on one leg after the other, and takes the answer of one
    # for the end of the call.
    return [waits("BYE"), A_MOMENT, sends(REPLY + NO_BODY)]


@dataclass
class Switch:
    """A running Kamailio, and where its telephones are."""

    address: str
    callee_port: int
    folder: Path
    child: Child
    telephones: "list[Telephone]" = field(default_factory=list)

    def telephone(
        self,
        name: str,
        steps: list[str],
        numbers: dict[str, str],
        *more: str,
        port: int = 0,
        to: str = "",
    ) -> "Telephone":
        """Starts a SIPp for one call, with more arguments; `to`: past this switch."""
        text = "\n".join(steps)
        for key, value in {"more": "", **numbers}.items():
            text = text.replace(f"{{{key}}}", value)
        unused = '<Reference variables="from,to"/>' if "assign_to" in text else ""
        path = self.folder / f"{name}.xml"
        path.write_text(f'<?xml version="1.0"?>\n<scenario name="{name}">{text}{unused}</scenario>')
        trace = self.folder / f"{name}.msg"
        command = [
            program("sipp"), to or self.address, "-sf", str(path), "-m", "1", "-i", HOST, "-p",
            str(port or udp_port()), "-nostdin", "-timeout", "30", "-timeout_error",
            "-trace_msg", "-message_file", str(trace), "-cp", str(udp_port()), *more,
        ]  # fmt: skip
        process = subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.telephones.append(Telephone(process, trace))
        return self.telephones[-1]


@dataclass
class Telephone:
    """One SIPp."""

    process: "subprocess.Popen[str]"
    trace: Path

    def done(self) -> str:
        """Waits for the end of the call, which must be as the scenario says; all its messages."""
        shown, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, shown[-3000:]
        return self.trace.read_text()

    def hang_up(self) -> None:
        """Ends it, whatever it is at."""
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind((HOST, 0))
        return int(held.getsockname()[1])


@contextmanager
def kamailio(folder: Path, router: str, **more: str) -> Iterator[Switch]:
    """Kamailio on a free port of loopback, asking the router at `host:port`."""
    port, callee = udp_port(), udp_port()
    address = f"{HOST}:{port}"
    environment = {
        "AXB_LISTEN": f"udp:{address}", "AXB_HOST": address, "AXB_PEERS": "127.0.0.0/8",
        "AXB_NEXT_HOP": f"sip:{HOST}:{callee}", "AXB_ROUTER": f"router=>http://{router}",
        "AXB_CARRIER": "cmcc", "AXB_MODE": "relay", "AXB_STRANGER": "403", "AXB_WORKERS": "4",
        "TZ": "UTC", **more,
    }  # fmt: skip
    command = [
        program("kamailio"), "-f", str(CONFIG), "-DD", "-E", "-Y", str(folder), "-m", "64",
    ]  # fmt: skip
    child = Child("kamailio", command, log=folder / "kamailio.log", env=environment, cwd=folder)
    switch = Switch(address, callee, folder, child.start())
    try:
        child.await_ready(lambda: answers_options(port), 20)
        yield switch
    finally:
        for telephone in switch.telephones:
            telephone.hang_up()
        child.stop()


def answers_options(port: int) -> bool:
    """Whether a SIP server answers on the port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.bind((HOST, 0))
        asked.settimeout(0.2)
        mine = asked.getsockname()[1]
        lines = (
            f"OPTIONS sip:{HOST}:{port} SIP/2.0",
            f"Via: SIP/2.0/UDP {HOST}:{mine};branch=z9hG4bK{mine}",
            f"From: <sip:probe@{HOST}>;tag=1", f"To: <sip:{HOST}>", f"Call-ID: probe-{mine}",
            "CSeq: 1 OPTIONS", "Max-Forwards: 9", "Content-Length: 0", "", "",
        )  # fmt: skip
        asked.sendto("\r\n".join(lines).encode(), (HOST, port))
        try:
            return asked.recv(4096).startswith(b"SIP/2.0 200")
        except OSError:
            return False


def listening(port: int) -> None:
    """Waits until somebody holds the UDP port."""

    def held() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tried:
            try:
                tried.bind((HOST, port))
            except OSError:
                return True
        return False

    eventually(held, what="a telephone")
