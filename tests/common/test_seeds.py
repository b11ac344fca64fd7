from usae.common.seeds import seed_of


def test_a_seed_follows_from_the_runs_seed_and_a_name():
    found = {(seed, name): seed_of(seed, name) for seed in (0, 1, 2**31) for name in ("", "a", "b", "ab")}
    assert len(set(found.values())) == 12
    assert found[0, "a"] == seed_of(0, "a")
    assert all(0 <= value < 2**32 for value in found.values())
