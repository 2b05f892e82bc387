"""What Snakemake asks of every job is remembered, and is what it would have been."""

import inspect

from sharpflow import planning


def test_a_signed_function_has_its_signature_at_hand():
    def asked(wildcards, attempt, *more):
        return wildcards, attempt, more

    plain = inspect.signature(asked)
    assert planning.signed(asked) is asked
    assert inspect.signature(asked) == plain
    assert inspect.signature(asked) is inspect.signature(asked)


def test_addresses_are_taken_apart_once_and_as_before(monkeypatch):
    import smart_open

    plain = smart_open.parse_uri
    monkeypatch.setattr(smart_open, "parse_uri", plain)
    planning.prepare()
    for address in ("scripts/train.py", "/a b/train.py", "https://host/train.py"):
        found = smart_open.parse_uri(address)
        assert found._asdict() == plain(address)._asdict()
        assert smart_open.parse_uri(address) is found


def test_a_resource_is_evaluated_with_what_its_function_takes():
    from snakemake.resources import Resource

    planning.prepare()
    asked = Resource("mem_mb", lambda wildcards, attempt: 100 * attempt)
    assert asked.evaluate({}, attempt=3, input=()).value == 300
    assert list(inspect.signature(asked.evaluate).parameters) == ["args", "kwargs"]
