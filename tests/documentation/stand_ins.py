"""What a test does instead of a documented command, and why; everything else runs as it stands.

Every entry must still be found in a page: what is not needed any more fails a test.
"""

from __future__ import annotations

# commands that no test runs: a regular expression found in the command, and the reason
EXCUSED = {
    r"^make test$": "it is what runs this",
    r"nvidia-smi": "needs a GPU's driver; it is NVIDIA's program, not ours",
    r"^kalshi sessions open 71 ": "needs the whole training plan trained, which takes many "
    "minutes; tests/test_sealed_plan.py and tests/test_command_line.py open sessions",
    r"^sudo ": "changes users, services and folders of the machine; tests/security/"
    "test_web_server.py starts what the units start, tests/storage/test_backups.py backs up",
    r"^kalshi backup restore": "needs a deployment that was lost; tests/storage/test_backups.py "
    "loses one",
    r"^pip install '\.\[s3\]'": "installs into the environment of the tests, which has it or skips",
    r"^ssh ": "needs another machine",
    r"^pip install .*\[ray\]": "fetches packages; make scale installs them",
    r"^(export RAY_|ray start|export KALSHI_ENGINE)": "starts processes that outlive the shell; "
    "tests/scale starts such a cluster",
    r"^(podman|kubectl|helm) ": "needs a registry and a cluster; tests/scale/test_kubernetes.py "
    "holds what they are given against its schemas",
    r"^kalshi sweep ": "needs the extra; tests/test_plan_sweep.py types it where that is installed",
    r"^make ui\b": "takes port 3000 of this machine; tests/pipeline/test_browser.py starts what it "
    "starts, on a free port",
}

# what does not end by itself: it is stopped after so many seconds, which is no failure
ENDLESS = {
    r"^tail -f ": 2,
    r"^tensorboard ": 10,
}

# other values for the same command: a regular expression, what takes its place, and the reason
INSTEAD = (
    (r"^make run\b(?!.*PLAN=)", "make run PLAN=quick", "the training plan takes many minutes"),
    (
        r"^make run PLAN=recorded KALSHI_RECORDINGS=\S+",
        "make run PLAN=quick KALSHI_RECORDINGS=$RECORDINGS",
        "real recordings are not on every machine, and training on them takes many minutes",
    ),
    (r"^make setup\b.*", "make setup", "an index of packages that stands for any"),
    (r"/path/to/recordings", "$RECORDINGS", "a path that stands for any"),
    (r"s3://my-bucket/kalshi", "s3://kalshi/documented", "a store that stands for any"),
    (r"/path/to/backup", "$PWD/backup", "a path that stands for any"),
    (r"/path/to/warehouse", "$PWD/warehouse", "a path that stands for any"),
    (
        r"postgresql://reader:secret@127.0.0.1:5432/collector",
        "$COLLECTOR",
        "a server that stands for any",
    ),
    (r"postgresql://writer@127.0.0.1:5432/copy", "$COPY", "a server that stands for any"),
    (r"^(kalshi sessions export) 102 103", r"\1 901 902", "real recordings are not everywhere"),
    (r"^(kalshi sessions export) 102 -", r"\1 901 -", "real recordings are not everywhere"),
    (r"^kalshi run$", "kalshi run --plan quick", "the training plan takes many minutes"),
    (r"timesteps = [\d_]+", "timesteps = 4_096", "as many steps take minutes"),
    (r"--total-timesteps \d+", "--total-timesteps 4096", "as many steps take minutes"),
    (
        r"^(kalshi train --session 32 --curriculum --algorithm ppo) --cash",
        r"\1 --total-timesteps 4096 --cash",
        "half a million steps take minutes",
    ),
    (r"kalshi report compare quick recorded", "kalshi report compare quick quick", "one plan ran"),
    (
        r"^duckdb -readonly (\S+)",
        r"""python -c 'import duckdb; duckdb.connect("\1", read_only=True).sql("FROM sessions")'""",
        "DuckDB's shell is a program of its own, and waits for what is typed",
    ),
)

# pages whose blocks belong together: one after the other, in one folder
STORIES = ("docs/TUTORIAL.md",)

# blocks that take longer than a drill may: what is in one of their commands
SLOW = (r"^make run\b", r"^kalshi (train|evaluate)\b", r"sessions export", r"^kalshi run\b")
