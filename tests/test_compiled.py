import numba

from recsys.compiled import compiled


def test_code_that_cannot_be_kept_is_compiled_all_the_same(monkeypatch):
    real = numba.njit

    def refuse(function, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return real(function, **options)

    monkeypatch.setattr(numba, "njit", refuse)
    assert compiled(lambda x: x + 1)(1) == 2
