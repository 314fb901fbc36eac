"""The names of storages, and the errors of storages that cannot be used."""

import subprocess
import sys
import time

import pytest
from optuna.trial import TrialState, create_trial

import structmat as sm
from structmat.errors import FileError, MissingExtraError, StructmatError
from structmat.search.study import attempts, liveness, storage
from structmat.search.study.engine import stored
from structmat.search.study.storage import named, reported

resource = pytest.importorskip("resource", reason="Windows has no resource limits")
OPTIONS = {"require": "dense", "sampler": "random", "proposals": ["families", "free"]}


def test_a_full_disk_is_reported_in_one_line_and_loses_no_finished_trial(tmp_path):
    """Limit the size of files in another process, which has the same effect as a full disk."""
    path = tmp_path / "search.journal"
    first = sm.search(8, "parameters", trials=6, storage=path, **OPTIONS)
    room = path.stat().st_size + 8000
    command = "search --width 8 --objective parameters --require dense --sampler random"
    sources = "--propose families --propose free --trials 40 --storage"
    program = (
        "import resource, sys; from structmat.cli import main;"
        f" resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}));"
        " sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *command.split(), *sources.split(), str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    start = f"structmat search: {path}: cannot read or write (File too large); the trials that"
    assert done.stderr.startswith(start)
    assert done.stderr.count("\n") == 1
    between = stored(path)
    assert 6 < len(between.trials) < 40
    assert between.trials[:6] == first.trials
    after = sm.search(8, "parameters", trials=40, storage=path, **OPTIONS)
    assert after.trials[: len(between.trials)] == between.trials
    assert after.running == 0
    assert after == sm.search(8, "parameters", trials=40, **OPTIONS)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("no/search.journal", r"no/search.journal: cannot read or write \(No such file or direct"),
        (".", r"\.: cannot read or write \(Is a directory\)"),
        ("", "storage='': a storage is the path of a journal file, or a database URL"),
        ("a\0b", r"storage='a\\x00b': a storage is the path of"),
        (5, "storage=5: a storage is the path of"),
        ("nodb://host/x", "database nodb is not supported; a storage is the path of"),
        (
            "postgresql://ann:tr0ub@host:port/x",
            "begins with 'postgresql':// cannot be parsed; a storage is",
        ),
        (
            "postgresql://ann:tr0ub%40dor@127.0.0.1:1/x",
            r"postgresql\+psycopg://ann:\*\*\*@127.0.0.1:1/x: the database cannot be used \(connec",
        ),
        ("sqlite:////no/such/folder/a.db", r"a.db: the database cannot be used \(unable to open"),
    ],
)
def test_a_storage_that_cannot_be_used_is_reported_in_one_line(
    tmp_path, monkeypatch, where, message
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileError, match=message) as error:
        sm.search(8, "depth", trials=1, storage=where)
    text = str(error.value)
    assert "\n" not in text
    assert "tr0ub" not in text
    assert error.value.__cause__ is None or "tr0ub" not in str(error.value.__cause__)


def test_passwords_are_replaced_in_names_and_messages():
    url = "postgresql://ann:a%2Fb@host/x?sslpassword=key&options=o"
    assert "a%2Fb" not in named(url)
    assert "key" not in named(url)
    assert "options=o" in named(url)
    from sqlalchemy.exc import OperationalError

    fault = OperationalError("connect", {}, Exception("cannot use a/b, a%2Fb or key"))
    with pytest.raises(FileError, match=r"\(cannot use \*\*\*, \*\*\* or \*\*\*\)"), reported(url):
        raise fault


def test_the_error_for_a_missing_driver_names_it(monkeypatch):
    with pytest.raises(MissingExtraError, match="the driver pymssql of the database is not inst"):
        sm.search(8, "depth", trials=1, storage="mssql+pymssql://ann@host/x")


def test_other_errors_are_not_reworded(tmp_path):
    with pytest.raises(ZeroDivisionError, match="division"), reported(tmp_path / "a"):
        _ = 1 / 0


def test_an_sqlite_file_is_a_storage(tmp_path):
    url = f"sqlite:///{tmp_path}/a.db"
    sm.search(8, "depth", trials=2, storage=url, **OPTIONS)
    found = sm.search(8, "depth", trials=4, storage=url, **OPTIONS)
    assert found == sm.search(8, "depth", trials=4, **OPTIONS) == stored(url)


def test_a_stored_search_is_found_by_its_name(tmp_path):
    path = tmp_path / "a"
    with pytest.raises(FileError, match="a: there is no such journal; a storage is the path"):
        stored(path)
    assert not path.exists()
    sm.search(8, "depth", trials=1, storage=path, name="first")
    with pytest.raises(StructmatError, match="there is no search 'search'; it contains 'first'"):
        stored(path)
    sm.search(8, "parameters", trials=1, storage=path)
    assert stored(path, "first").goals[0].name == "depth"
    assert stored(path).goals[0].name == "parameters"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"width": 9}, "was started with width=8, not 9; give the same options, or another"),
        ({"objectives": "parameters"}, r"objectives=\[\['depth', 'minimize'\]\], not"),
        ({"require": "universal"}, r"requirements=\['dense'\], not \['universal'\]"),
        ({"rng": 1}, "rng=0, not 1"),
        ({"sampler": "tpe"}, "sampler='random', not 'tpe'"),
        ({"proposals": "free"}, r"proposals=\['families', 'free'\], not \['free'\]"),
        ({"families": ["benes"]}, r"families=\["),
        ({"start": ["benes"]}, r"start=\[\], not \['benes'\]"),
    ],
)
def test_a_search_can_be_joined_only_with_the_same_options(tmp_path, changed, message):
    options = {"width": 8, "objectives": "depth", "trials": 1, **OPTIONS}
    sm.search(**options, storage=tmp_path / "a")
    with pytest.raises(StructmatError, match=message):
        sm.search(**{**options, **changed}, storage=tmp_path / "a")


@pytest.mark.parametrize("name", ["", None, 5])
def test_the_name_of_a_search_is_a_text(tmp_path, name):
    with pytest.raises(StructmatError, match=r"name=.*: it must be a text that is not empty"):
        sm.search(8, "depth", trials=1, storage=tmp_path / "a", name=name)


def test_a_search_of_another_version_is_refused(tmp_path):
    options = {"storage": tmp_path / "a", **OPTIONS}
    sm.search(8, "depth", trials=1, **options)
    text = options["storage"].read_text()
    options["storage"].write_text(text.replace('"version":1,', '"version":2,'))
    message = "a: the search 'search' has version 2; this structmat reads version 1"
    with pytest.raises(FileError, match=message):
        sm.search(8, "depth", trials=1, **options)
    with pytest.raises(FileError, match=message):
        stored(options["storage"])


@pytest.mark.parametrize("line", ['{"op_code":77}\n', '{"op_code":5}\n'])
def test_a_journal_with_unknown_lines_is_refused(tmp_path, line):
    path = tmp_path / "a"
    sm.search(8, "depth", trials=1, storage=path, **OPTIONS)
    with path.open("a") as file:
        file.write(line)
    with pytest.raises(FileError, match="a line of the journal is missing or has an unknown form"):
        stored(path)


def test_a_study_of_another_program_is_refused(tmp_path):
    import optuna

    url = f"sqlite:///{tmp_path}/a.db"
    study = optuna.create_study(storage=url, study_name="search")
    study.add_trial(create_trial(value=1.0))
    with pytest.raises(StructmatError, match="the study 'search' was not made by structmat"):
        sm.search(8, "depth", trials=1, storage=url)
    with pytest.raises(StructmatError, match="the study 'search' was not made by structmat"):
        stored(url)


# Processes that end ------------------------------------------------------------------------------


def unfinished(path, worker):
    """Add a trial that a process began, and return its study."""
    import optuna

    study = optuna.load_study(study_name="search", storage=storage.opened(path))
    trial = study.ask()
    if worker is not None:
        trial.set_user_attr(liveness.WORKER, worker)
    return study


def this_process(**changed):
    return liveness._this_process() | changed


def test_trials_of_processes_that_ended_are_run_again(tmp_path, monkeypatch):
    path = tmp_path / "a"
    whole = sm.search(8, "depth", trials=4, **OPTIONS)
    sm.search(8, "depth", trials=1, storage=path, **OPTIONS)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    unfinished(path, this_process(process=gone.pid, since="1"))
    unfinished(path, this_process())  # begun by this process, which no longer runs it
    found = sm.search(8, "depth", trials=4, storage=path, **OPTIONS)
    assert found == whole


def test_a_process_on_another_machine_has_ended_if_its_heartbeat_stops(tmp_path, monkeypatch):
    path = tmp_path / "a"
    sm.search(8, "depth", trials=1, storage=path, **OPTIONS)
    unfinished(path, this_process(host="elsewhere"))
    unfinished(path, None)  # killed before it recorded its identity
    found = sm.search(8, "depth", trials=3, storage=path, timeout=0.5, **OPTIONS)
    assert found.running == 2  # its trial may still be finished
    monkeypatch.setattr(liveness, "GRACE", 0.2)
    found = sm.search(8, "depth", trials=3, storage=path, **OPTIONS)
    assert found == sm.search(8, "depth", trials=3, **OPTIONS)


def test_heartbeats_are_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(liveness, "INTERVAL", 0.02)

    path = tmp_path / "a"

    def patient(net):
        end = time.monotonic() + 60
        while b'"beat":2' not in path.read_bytes() and time.monotonic() < end:
            time.sleep(0.01)
        return net.depth

    found = sm.search(8, patient, trials=1, storage=path)
    assert found.counts["feasible"] == 1
    study = unfinished(path, None)
    assert study.trials[0].user_attrs[liveness.BEAT] >= 2


def test_a_network_that_ends_each_process_is_given_up(tmp_path):
    path = tmp_path / "a"
    sm.search(8, "depth", trials=1, storage=path, **OPTIONS)
    for _ in range(3):
        study = unfinished(path, None)
        study.tell(study.trials[-1].number, state=TrialState.FAIL)
        study.add_trial(create_trial(state=TrialState.WAITING, user_attrs={attempts.AGAIN: 1}))
    found = sm.search(8, "depth", trials=3, storage=path, **OPTIONS)
    assert [t.state == "failed" for t in found.trials] == [False, True, False]
    assert found.trials[1].message == attempts.GIVEN_UP
