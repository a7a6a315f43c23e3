"""Decisions for tests of what is made of them. Pure."""

from services.router.domain import Call, Decision, Entry, Refusal, Side

A, B = "+8613812345678", "+8613912345678"
NUMBER, NOW = "700123456780001", 1_800_000_000_123
ENTRY = Entry("t1", "b1", 3, True, Side.A, 1, 1, 30, NOW + 1000, 1, "taxi", "k", b"box")
CALL = Call("cmcc", "c1", A, NUMBER, "trunk-1")


def decision(refusal: Refusal | None = None, **more: object) -> Decision:
    fields = {
        "call": CALL, "time_ms": NOW, "age_ms": 250, "number": NUMBER, "tenant": "t1",
        "entry": ENTRY, "refusal": refusal, "callee": "" if refusal else B, "caller": A,
        "tag": b"T" * 16, **more,
    }  # fmt: skip
    return Decision(**fields)  # type: ignore[arg-type]
