from usae.common.errors import UserError


def test_a_listing_is_one_bullet_a_fault():
    assert str(UserError.listing("Faults:", ["one", "two"])) == "Faults:\n  - one\n  - two"


def test_a_long_listing_fits_a_screen_and_says_how_many_more():
    lines = str(UserError.listing("Faults:", [f"fault {i}" for i in range(50)])).splitlines()
    assert len(lines) == 22
    assert lines[-1] == "  - and 30 more"
