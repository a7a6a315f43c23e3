"""The house rules that a machine can check. The rest is the review card in CONTRIBUTING.md."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from axbridge.type.v1.error_reason_pb2 import ErrorReason

from services.runtime import errors
from services.runtime.status import CODES
from services.runtime.topics import CATALOGUE, Topic

ROOT = Path(__file__).parents[1]
FOUR = ("allocator", "binding", "router", "audit")


def python(*folders: str) -> list[str]:
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sorted(str(path.relative_to(ROOT)) for path in found)


MODULES = python("services", "deploy")
TESTS = python("tests")
TREES = {name: ast.parse((ROOT / name).read_text("utf-8"), name) for name in [*MODULES, *TESTS]}

# --- every module has its test ---------------------------------------------------------------

# Files of these names are covered by a tier, not by a unit test of their own.
BY_TIER = {
    "__main__": "tests/component/test_{service}*.py",  # wiring: a real process or server
    "service": "tests/component/test_{service}*.py",  # wiring, too long for __main__
    "servicer": "tests/component/test_{service}*.py",  # the gRPC edge, through a real channel
    "settings": "tests/unit/deploy/deployed.py",  # compose and k8s load them with real values
    "ports": "services/{service}/ports.py",  # Protocols: nothing that runs
}
# Single modules that another test covers, and which. Keep it small.
COVERED = {
    "deploy/local/__main__.py": "tests/unit/deploy/test_main.py",
    "services/runtime/owner.py": "tests/contract/test_cell.py",
    "services/binding/refill.py": "tests/contract/test_binding_rebuild.py",
    "services/runtime/maintenance.py": "tests/component/test_binding_maintenance.py",
    "services/runtime/message.py": "tests/contract/test_consumer.py",
    "services/runtime/parking.py": "tests/contract/test_consumer.py",
    "services/runtime/publisher.py": "tests/contract/test_consumer.py",
    "services/runtime/rebuild.py": "tests/contract/test_cell.py",
    "services/runtime/relay.py": "tests/contract/test_cell.py",
    "services/runtime/repair.py": "tests/contract/test_cell.py",
    "services/audit/postgresindex.py": "tests/interop/test_postgres_index.py",
    "services/audit/postgrestables.py": "tests/interop/test_postgres_index.py",
    "services/router/supervised.py": "tests/component/test_router*.py",
    "services/router/supervisor.py": "tests/component/test_router*.py",
    "services/router/worker.py": "tests/component/test_router*.py",
    "services/router/writer.py": "tests/component/test_router*.py",
    "services/router/records.py": "tests/component/test_router*.py",
    "services/router/push.py": "tests/e2e/test_push.py",
    "deploy/local/demo.py": "tests/e2e/test_*.py",
    "deploy/local/replay.py": "tests/e2e/test_*.py",
    "deploy/local/replaying.py": "tests/e2e/test_*.py",
    "deploy/local/cluster.py": "tests/e2e/test_*.py",
    "deploy/local/clients.py": "tests/e2e/test_*.py",
}


def places(module: str) -> list[str]:
    """Where the test of a module may lie."""
    path = Path(module)
    owner = "deploy" if path.parts[0] == "deploy" else path.parts[1]
    if module in COVERED:
        return [COVERED[module]]
    if path.stem in BY_TIER and owner in FOUR:
        return [BY_TIER[path.stem].format(service=owner)]
    own = [f"tests/unit/{owner}/test_{path.stem}.py", f"tests/unit/{owner}/test_{path.stem}_*.py"]
    tiers = [f"tests/{tier}/test_{owner}_{path.stem}*.py" for tier in ("contract", "component")]
    return [*own, *tiers, f"tests/contract/test_{path.stem}.py"]


@pytest.mark.parametrize("module", [name for name in MODULES if not name.endswith("__init__.py")])
def test_every_module_has_its_test(module: str) -> None:
    wanted = places(module)
    assert any(True for place in wanted for _ in ROOT.glob(place)), f"none of {wanted}"


def test_the_list_of_covered_modules_names_what_exists() -> None:
    assert set(COVERED) <= set(MODULES)


# --- size and shape --------------------------------------------------------------------------


def limit(name: str) -> int:
    if name.startswith("tests/"):
        return 400
    return 60 if re.fullmatch(r"services/\w+/__main__\.py", name) else 300


@pytest.mark.parametrize("name", TREES)
def test_no_file_is_longer_than_can_be_followed(name: str) -> None:
    lines = len((ROOT / name).read_text("utf-8").splitlines())
    assert lines <= limit(name), f"{lines} lines"


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is_responsible_for(name: str) -> None:
    assert ast.get_docstring(TREES[name])


FORBIDDEN_NAMES = {"utils", "helpers", "common", "manager", "base", "misc"}


def test_names_say_what_a_file_does() -> None:
    assert [name for name in TREES if Path(name).stem in FORBIDDEN_NAMES] == []


def test_open_work_has_an_issue_number() -> None:
    marks = re.compile(r"\b(?:TODO|FIXME|XXX)\b(?!.*#\d+)")
    texts = [ROOT / name for name in TREES if name != "tests/test_house.py"]
    for suffix in ("*.lua", "*.proto"):
        texts += [*(ROOT / "services").rglob(suffix), *(ROOT / "protos").rglob(suffix)]
    assert [str(path) for path in texts if marks.search(path.read_text("utf-8"))] == []


# --- tests wait for conditions ---------------------------------------------------------------

SLEEPERS = {
    "tests/unit/audit/test_logfolder.py": "the random moment at which a process is killed",
    "tests/unit/runtime/echo.py": "a handler that is slow on purpose",
    "tests/unit/runtime/test_guard.py": "lets a bound pass that only real time can pass",
    "tests/unit/runtime/test_server.py": "polls a condition with a deadline",
}


def sleeps(tree: ast.Module) -> Iterator[int]:
    """Lines that call time.sleep, or a sleep imported by name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"time.sleep", "sleep"}:
            yield node.lineno


@pytest.mark.parametrize("name", [name for name in TESTS if name not in SLEEPERS])
def test_no_test_sleeps(name: str) -> None:
    assert list(sleeps(TREES[name])) == [], "wait with deploy.local.waiting.eventually"


def test_the_list_of_sleepers_is_as_small_as_it_can_be() -> None:
    assert all(any(sleeps(TREES[name])) for name in SLEEPERS)


# --- topics and protos -----------------------------------------------------------------------


@pytest.mark.parametrize("topic", CATALOGUE, ids=lambda topic: topic.name)
def test_topics_agree_with_the_protos(topic: Topic) -> None:
    assert re.fullmatch(rf"{topic.owner}\.[a-z]+\.v1", topic.name)
    assert topic.messages
    for name in topic.messages:
        package, message = name.rsplit(".", 1)
        assert package == f"axbridge.{topic.owner}.v1"
        kinds = importlib.import_module(f"{package}.events_pb2")
        assert getattr(kinds, message).DESCRIPTOR.full_name == name


def test_a_message_stands_in_one_topic_only() -> None:
    names = [name for topic in CATALOGUE for name in topic.messages]
    assert len(names) == len(set(names))


# --- reasons ---------------------------------------------------------------------------------

IN_PROTO = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.DESCRIPTOR.values_by_name}
# status.error_from_rpc gives these to errors that carry no reason of ours.
CODE_NAMES = {code.name for code in CODES.values()}
# They end the process or its start; no caller ever sees them.
NEVER_SENT = {
    "KEY_FILE_BROKEN": "the ring's folder is damaged",
    "PARKED_TOO_MANY": "the consumer stops for a person to look",
    "PARKING_FAILED": "the consumer stops and reads the record again",
    "TOPIC_DIFFERS": "at start",
    "TOPIC_MISSING": "at start",
    "TOPIC_NOT_CREATED": "when topics are created",
}
# What the answers of Lua functions mean to the Python that called them; not reasons of errors.
LUA_ANSWERS = {
    "OK",
    "BLOCKS_CHANGED",
    "CHANGED",
    "DEPOSED",
    "EARLY",
    "GAP",
    "KNOWN",
    "LOST",
    "OTHER",
}
LUA_ANSWERS |= {"CONTRADICTED", "OWNER", "STALE", "TAKEN"}


def error_classes() -> set[str]:
    """Names of all errors that may be sent; those of consumers only name why a record is parked."""
    local: list[type] = [errors.ConsumerError, *errors.ConsumerError.__subclasses__()]
    known = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.AxbridgeError) and kind not in local
    }
    while True:
        found = {
            node.name
            for name in MODULES
            for node in ast.walk(TREES[name])
            if isinstance(node, ast.ClassDef)
            and any(ast.unparse(base).rsplit(".", 1)[-1] in known for base in node.bases)
        } - {kind.__name__ for kind in local}
        if found <= known:
            return known
        known |= found


def reasons() -> Iterator[tuple[str, str]]:
    known = error_classes()
    for name in MODULES:
        for node in ast.walk(TREES[name]):
            match node:
                case ast.Call(func=function, args=[ast.Constant(value=str(reason)), *_]):
                    if ast.unparse(function).rsplit(".", 1)[-1] in known:
                        yield reason, f"{name}:{node.lineno}"


def test_the_scan_finds_reasons() -> None:
    assert {"POOL_NOT_FOUND", "REQUEST_ID_INVALID", "TOPIC_MISSING"} <= {r for r, _ in reasons()}


def test_every_reason_is_in_the_proto() -> None:
    allowed = IN_PROTO | CODE_NAMES | set(NEVER_SENT)
    assert [f"{reason} at {place}" for reason, place in reasons() if reason not in allowed] == []


def test_every_refusal_of_a_lua_function_is_in_the_proto() -> None:
    unknown = []
    for path in (ROOT / "services").rglob("*.lua"):
        for answer in re.findall(r"return \{\s*'([A-Z][A-Z_]+)'", path.read_text("utf-8")):
            if answer not in IN_PROTO | LUA_ANSWERS:
                unknown.append(f"{answer} in {path.name}")
    assert unknown == []


def test_the_list_of_reasons_never_sent_is_as_small_as_it_can_be() -> None:
    assert set(NEVER_SENT) <= {reason for reason, _ in reasons()}
    assert not set(NEVER_SENT) & IN_PROTO
