"""Load tests and the judge of their outcome. Imports nothing of the service: a judge shares no code with the judged.

| module | noun |
|---|---|
| `flood.js` | the k6 scenario: a closed loop on `GET /api/data`, every answer recorded |
| `witness.py` | the proxy in front of MongoDB that stamps every command |
| `wire.py` | MongoDB's message format, read as far as a command's name |
| `window.py` | the witness' record, and the busiest second in it |
| `answers.py` | what k6 recorded: accepted ids, unknown outcomes, start and stop |
| `compare.py` | the verdict: accepted ids against stored documents |
| `service.py` | the running service: its addresses, its status, its drain |
| `verify.py` | all of the above put together, and the exit code |
| `report.py` | how a verdict is shown and kept |
"""
