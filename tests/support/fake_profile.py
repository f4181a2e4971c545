"""What was measured of the networks of a study that was made up."""

from kdbench.records.profiles import Profile, ProfiledNetwork, Timing


def network(name, role, rows, milliseconds, size, parameters=100):
    """A network with a latency at batch 1; a batch of 32 takes eight times as long."""
    timings = tuple(
        Timing(batch, m / 1000, 0.9 * m / 1000, 1.2 * m / 1000, size + batch * 1000)
        for batch, m in ((1, milliseconds), (32, 8 * milliseconds))
    )
    sizes = {"safetensors": size}
    return ProfiledNetwork(name, role, tuple(rows), parameters, 1000, sizes, timings)


def profile(*networks):
    """A profile of these networks."""
    versions = {"torch": "2.11", "numpy": "2.0"}
    date = "2026-01-02T03:04:05+00:00"
    return Profile("a machine, 2 cores", "cpu", 1, versions, date, 50, networks)


def fake_profile(rows, headed):
    """A teacher, an assistant, a small student with a leaderboard's `rows` and a slower one with
    those of `headed`."""
    return profile(
        network("large", "teacher", [("teacher", "teacher")], 4.0, 400_000),
        network("medium", "assistant", [], 2.0, 200_000),
        network("small", "student", rows, 0.5, 50_000),
        network("small + dml head", "student", headed, 0.8, 90_000),
    )
