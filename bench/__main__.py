"""`python -m bench [--quick] [chunk] [loop-lag] [insert]`: run benchmarks (all, if none is named), and report them."""

import argparse
import importlib

from bench import harness, report

BENCHMARKS = {
    "chunk": "bench.chunk",
    "chunk-tokens": "bench.chunk_tokens",
    "loop-lag": "bench.loop_lag",
    "insert": "bench.insert",
    "ingest-memory": "bench.ingest_memory",
    "ingest-e2e": "bench.ingest_e2e",
    "embed": "bench.embed",
    "enumeration": "bench.enumeration",
    "tenant-recall": "bench.tenant_recall",
    "tenant-latency": "bench.tenant_latency",
    "isolation-tax": "bench.isolation_tax",
    "tail-ingest": "bench.tail_ingest",
    "cost": "bench.cost",
    "lexical": "bench.lexical",
    "hybrid": "bench.hybrid",
    "stream-cpu": "bench.stream_cpu",
    "ttft": "bench.ttft",
    "login-storm": "bench.login_storm",
    "beside-streams": "bench.beside_streams",
}


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--report", action="store_true", help="only write the page from the results there are")
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], metavar="benchmark", help=", ".join(BENCHMARKS))
    options = parser.parse_args()
    if not options.report:
        for name in options.names or BENCHMARKS:
            _run(name, quick=options.quick)
    report.write()


def _run(name: str, *, quick: bool) -> None:
    print(f"{name} ...", flush=True)
    at, machine, commit = harness.now(), harness.machine(), harness.commit()
    # Only here: each benchmark needs other packages.
    series, goals, notes = importlib.import_module(BENCHMARKS[name]).run(quick=quick)
    command = f'make bench BENCH_ARGS="{"--quick " if quick else ""}{name}"'
    result = harness.Result(name, command, commit, at, machine, tuple(series), tuple(goals), tuple(notes))
    harness.RESULTS.mkdir(exist_ok=True)
    (harness.RESULTS / f"{name}.json").write_text(result.to_json(), encoding="utf-8")
    for goal in goals:
        print(f"  {'met    ' if goal.met else 'NOT MET'} {goal.text}: {goal.got:.3g} (goal {goal.bound:g})", flush=True)


if __name__ == "__main__":
    main()
