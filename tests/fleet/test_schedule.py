"""Which job goes to which host, and whose fault a failure is."""

from fleet.schedule import Schedule


def test_a_job_goes_to_a_host_that_has_not_failed_it_while_there_is_one():
    schedule = Schedule("ab", [0, 1])
    assert schedule.next_for("a") == 0
    assert not schedule.failed("a", 0, refused=False)
    assert schedule.next_for("a") == 1 and schedule.next_for("a") is None
    schedule.leave("b")
    assert schedule.next_for("a") == 0


def test_three_failures_on_the_same_host_are_not_three_hosts():
    schedule = Schedule("abc", [0])
    assert not any(schedule.failed("a", 0, refused=False) for _ in range(3))
    assert not schedule.failed("b", 0, refused=False)
    assert schedule.failed("c", 0, refused=False)


def test_what_failed_on_a_host_that_rests_is_not_held_against_the_jobs():
    schedule = Schedule("abc", [])
    for job in range(3):
        schedule.failed("a", job, refused=False)
    assert schedule.rest("a")
    assert not schedule.failed("b", 0, refused=False) and not schedule.failed("c", 0, refused=False)


def test_refusals_that_another_host_confirms_are_not_held_against_a_host():
    schedule = Schedule("ab", [])
    for job in range(3):
        assert not schedule.failed("a", job, refused=True)
    assert schedule.rest("a") and not schedule.cleared("a")
    assert all(schedule.failed("b", job, refused=True) for job in range(3))
    assert schedule.cleared("a") and not schedule.rest("b")


def test_a_host_that_only_rests_is_hopeless_and_one_job_done_makes_up_for_it():
    schedule = Schedule("ab", [])
    for job in range(3):
        schedule.failed("a", job, refused=False)
    for job in range(3, 5):
        assert schedule.rest("a") and not schedule.hopeless("a")
        schedule.back("a")
        schedule.failed("a", job, refused=False)
    assert schedule.rest("a") and schedule.hopeless("a")
    schedule.succeeded("a", 9)
    assert not schedule.hopeless("a") and not schedule.rest("a")
