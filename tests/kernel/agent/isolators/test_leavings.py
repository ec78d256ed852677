"""What a runtime of containers leaves in hierarchies that are not ours."""

from __future__ import annotations

from pathlib import Path

from kernel.agent.isolators.leavings import Leavings


def test_groups_of_containers_that_nobody_knows_are_removed_where_nothing_is_in_them(tmp_path: Path) -> None:
    """Folders do for groups: both can be removed when nothing is in them."""
    for name in ("known", "left", "busy/something"):
        (tmp_path / "devices" / "meseta" / "1234" / name).mkdir(parents=True)
    leavings = Leavings([str(tmp_path / hierarchy / "meseta" / "1234") for hierarchy in ("devices", "freezer")])
    leavings.sweep({"known"})
    assert {path.name for path in (tmp_path / "devices" / "meseta" / "1234").iterdir()} == {"known", "busy"}


def test_an_agent_that_leaves_takes_its_folder_away_but_not_the_one_that_agents_share(tmp_path: Path) -> None:
    folder = tmp_path / "meseta" / "1234"
    (folder / "left").mkdir(parents=True)
    Leavings([str(folder)]).close()
    assert not folder.exists()
    assert folder.parent.exists()


def test_a_folder_in_which_something_runs_stays(tmp_path: Path) -> None:
    (tmp_path / "1234" / "busy" / "something").mkdir(parents=True)
    Leavings([str(tmp_path / "1234")]).close()
    assert (tmp_path / "1234" / "busy" / "something").exists()
