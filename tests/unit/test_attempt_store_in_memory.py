import inspect

from pipeline.store.attempts import AttemptStore
from tests.unit.attempts_in_memory import MemoryAttempts, public_methods


def test_the_fake_has_the_methods_of_the_store_with_their_signatures():
    real, fake = public_methods(AttemptStore), public_methods(MemoryAttempts)
    assert {name: inspect.signature(fake[name]) for name in real if name in fake} == {
        name: inspect.signature(method) for name, method in real.items()
    }
