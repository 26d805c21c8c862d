"""Load tests and the judge of their outcome. Imports nothing of the service: a judge shares no code with the judged.

Only `contender.py` asks it for a free port, which judges nothing (`pyproject.toml` has the contract).

| module | noun |
|---|---|
| `scenarios/` | what k6 does: one file a story, and what they share in `lib/`; every answer is recorded |
| `scenario.py`, `preflight.py` | what a scenario will do, what it needs of the machine, the command that mends it |
| `generator.py` | k6: found, asked, started; its thresholds |
| `processes.py`, `samples.py` | what is looked at once a second while k6 runs |
| `k6_run.py` | one run of k6, from an empty record to its end |
| `laboratory.py` | one trial: check, load, watch, judge |
| `throughput.py` | a run that is not judged: warm-ups, and the capacity |
| `series.py`, `findings.py` | the figures over time; saturation and breaking point |
| `trial_page.py`, `page.py`, `plots.py`, `facts.py` | a trial's report; any report; drawings; where it was measured |
| `compare.py`, `strike.py`, `contest.py`, `compare_page.py` | ours beside the baselines: run, killed, judged, shown |
| `scale.py`, `serve_api.py` | one axis after the other; Serve's config API |
| `limits.py` | how near ours comes to what the machine and the frameworks allow |
| `contender.py`, `spillway.py`, `baselines/` | services that experiments start themselves |
| `servers.py` | the FerretDB and the Redis below them |
| `witness.py` | the proxy in front of MongoDB that stamps every command |
| `wire.py` | MongoDB's message format, read as far as a command's name |
| `window.py` | the witness' record, and the busiest second in it |
| `answers.py` | what k6 recorded: accepted ids, unknown outcomes, start and stop |
| `stored.py`, `verdict.py` | what MongoDB holds; accepted ids against it |
| `service.py` | the running service: its addresses, its status, its drain |
| `verify.py` | all of the above put together, and the exit code |
| `report.py` | how a verdict is shown and kept |
"""
