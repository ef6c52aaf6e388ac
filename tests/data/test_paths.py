from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from torchnin.data.paths import each_picture_below, natural_key, pictures_below


@given(st.lists(st.text(alphabet="ab019é ", max_size=6)))
def test_any_names_can_be_sorted(names: list[str]) -> None:
    assert sorted(sorted(names, reverse=True), key=natural_key) == sorted(names, key=natural_key)


def test_pictures_below_a_folder_one_by_one_or_at_once(tmp_path: Path) -> None:
    for name in ("10.png", "2.JPG", "deeper/1.png", ".hidden.png", "__MACOSX/3.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    expected = [tmp_path / name for name in ("2.JPG", "10.png", "deeper/1.png")]
    assert pictures_below(tmp_path) == list(each_picture_below(tmp_path)) == expected
