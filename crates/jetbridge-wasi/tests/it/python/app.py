"""A command that calls every function of the first draft, and fails if an answer is not right."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import atomics, batch, store


def error_of(action):
    try:
        action()
    except Err as error:
        return error.value
    raise AssertionError("it did not fail")


class Run(exports.Run):
    def run(self) -> None:
        bucket = store.open("")
        before = int(bucket.get("n") or b"0")
        assert atomics.increment(bucket, "n", 5) == before + 5
        assert atomics.increment(bucket, "n", 2) == before + 7
        bucket.set("käse 1", b"gouda")
        assert bucket.get("käse 1") == b"gouda"
        assert bucket.get("absent") is None
        assert bucket.exists("n") and not bucket.exists("absent")
        batch.set_many(bucket, [("a", b"1"), ("b", b"2")])
        assert batch.get_many(bucket, ["b", "absent", "a"]) == [("b", b"2"), None, ("a", b"1")]
        batch.delete_many(bucket, ["a", "b", "absent"])
        assert sorted(bucket.list_keys(None).keys) == ["käse 1", "n"]
        assert isinstance(error_of(lambda: store.open("nowhere")), store.Error_NoSuchStore)
        bucket.set("word", b"words")
        error = error_of(lambda: atomics.increment(bucket, "word", 1))
        assert isinstance(error, store.Error_Other) and "not a number" in error.value
        assert isinstance(error_of(lambda: bucket.get("")), store.Error_Other)
        bucket.delete("word")
