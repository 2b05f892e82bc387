"""What a job says of how far it is: rarely, cheaply, and without changing what it makes."""

from shards import shard
from specs import measurements

from sharpflow.measurements.evaluate import evaluate
from sharpflow.storage.heartbeat import Heartbeat, beat_path, heartbeat, read_beat
from sharpflow.training import train


class Heard(Heartbeat):
    """A heartbeat that keeps what it was told."""

    def __init__(self):
        super().__init__(None)
        self.told = []

    def at(self, step, of):
        self.told.append((step, of))


class Clock:
    """Time that passes when it is told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_it_writes_once_in_an_interval(tmp_path):
    clock = Clock()
    beat = Heartbeat(tmp_path / "job.progress", 1.0, clock)
    beat.at(100, 500)
    clock.now = 0.9
    beat.at(140, 500)
    assert read_beat(tmp_path / "job.progress") is None
    clock.now = 2.0
    beat.at(200, 500)
    assert read_beat(tmp_path / "job.progress") == (200, 500, 50.0)
    clock.now = 2.5
    beat.at(300, 500)
    assert read_beat(tmp_path / "job.progress") == (200, 500, 50.0)


def test_nothing_is_left_and_no_disk_stops_it(tmp_path):
    path = beat_path(tmp_path / "train.log")
    with heartbeat(path, interval=0.0) as beat:
        for step in (10_000, 7):  # a shorter line in the place of a longer one
            beat.at(step, 20_000)
            assert (read_beat(path) or ())[:2] == (step, 20_000)
    assert not path.exists()
    with heartbeat(tmp_path / "absent" / "train.progress", interval=0.0) as beat:
        beat.at(1, 2)
    with heartbeat(None, interval=0.0) as beat:
        beat.at(1, 2)


def test_half_a_line_is_no_word(tmp_path):
    for text in ("", "12 ", "12 500", "a b c", "1 2 3 4"):
        (tmp_path / "job.progress").write_text(text)
        assert read_beat(tmp_path / "job.progress") is None


def test_a_job_tells_its_steps_and_makes_the_same(make_dataset):
    problem = shard(
        make_dataset(), {"kind": "mlp", "hidden_layers": 1}, {"steps": 12, "record_every": 3}
    )
    heard = Heard()
    trajectory = train(problem, beat=heard)
    assert trajectory.columns.equals(train(problem).columns)
    assert heard.told == [(step, 12) for step in (0, 3, 6, 9, 12)]

    chosen = measurements(hessian={"every": 6})
    kept = {step: trajectory.states[step] for step in (0, 9, 12)}
    heard = Heard()
    made = evaluate(problem, [0, 9, 12], kept.__getitem__, chosen, beat=heard)
    assert made.columns.equals(evaluate(problem, [0, 9, 12], kept.__getitem__, chosen).columns)
    assert heard.told == [(step, 12) for step in (0, 6, 9, 9)]  # 9 ends one stretch, begins one
