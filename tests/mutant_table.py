"""The mutants: a mistake somebody might make, the promise of docs/guarantees.md that it breaks, and who notices."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    name: str
    promise: str  # I1 to I9
    file: str
    edits: tuple[tuple[str, str], ...]  # text that is there exactly once, and what becomes of it
    tests: tuple[str, ...]  # every one of them must fail


def _one(name: str, promise: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    return Mutant(name, promise, file, ((old, new),), tests)


BUDGET, PACING, WRITER = "actors/budget.py", "actors/core/pacing.py", "actors/writer.py"
INFLOW, OUTFLOW, BATCHING = "actors/inflow.py", "actors/outflow.py", "actors/core/batching.py"
STREAMS = "actors/adapters/redis_streams.py"
ROOM, LOG, LINK = "actors/room.py", "actors/adapters/redis_log.py", "actors/adapters/redis_link.py"

RING = "tests/unit/test_pacing.py::test_no_window_of_a_second_holds_more_than_r_commands_at_the_server"
CAP = "tests/unit/test_exact_cap.py::"
TEST_WRITER = "tests/unit/test_writer.py::"
TEST_INFLOW = "tests/unit/test_inflow.py::"
TEST_OUTFLOW = "tests/unit/test_outflow.py::"
TEST_READS = "tests/unit/test_read_your_writes.py::"
TEST_PROTOCOL = "tests/unit/test_protocol.py::"
TEST_REPLICA = "tests/contract/test_replica.py::"
TEST_LOG = "tests/contract/test_write_log.py::"
POOLS = "tests/contract/test_pool_changes.py::test_whatever_pools_follow_each_other_the_last_accepted_version_wins"

_BUCKET = '''class TokenBucket(CompletionRing):
    tokens: int | None = None
    at = 0

    def wait_ns(self, now: int, cost: int = 1) -> int | None:
        full = self.slots * SECOND_NS
        self.tokens = full if self.tokens is None else min(full, self.tokens + (now - self.at) * self.slots)
        self.at = now
        return max(0, -(-(SECOND_NS - self.tokens) // self.slots))

    def admit(self, now: int, cost: int = 1) -> None:
        self.tokens -= SECOND_NS

    def complete(self, end: int, cost: int = 1) -> None: ...

    def cancel(self, now: int, cost: int = 1) -> None: ...


CompletionRing = TokenBucket


class WindowGauge:'''

MUTANTS = (
    _one(
        "a Redis that no longer syncs goes unseen", "I1", LOG,
        "if settings and (wrong := unsafe(ChainMap(*settings))):", "if False and (wrong := ''):",
        TEST_LOG + "test_a_redis_that_may_lose_what_it_acknowledged_is_refused_and_the_setting_named",
    ),
    _one(
        "a Redis of another service taken for the one just started", "I1", "cluster/embedded/child.py",
        "return self._taken() or late", "return late",
        "tests/contract/test_claims.py::test_a_redis_that_another_program_runs_on_the_port_is_not_taken_for_ours",
    ),
    _one(
        "a log that opens while its file is not there yet", "I1", LINK,
        'if file.get("aof_rewrite_in_progress") or', "if False and file or",
        TEST_LOG + "test_a_log_opens_when_the_file_that_keeps_it_is_there",
    ),
    _one(
        "an empty stream of an earlier pool believed before its heir has it", "I5", STREAMS,
        ' and entries == 0\n', " or entries == 0\n",
        TEST_LOG + "test_a_stream_is_not_poured_before_its_heir_has_opened_it",
    ),
    _one(
        "all of a batch again for one refused write", "I2", OUTFLOW,
        "skip |= done | planned.covered_by(done - fresh.keys())", "skip |= rejected.keys()",
        TEST_OUTFLOW + "test_what_a_refusal_makes_count_again_takes_no_other_key_with_it",
    ),
    _one(
        "what follows a refused write before what counts again", "I1", OUTFLOW,
        "            if planned.is_lacking(fresh):\n                break\n        return sent", "        return sent",
        TEST_OUTFLOW + "test_nothing_is_sent_before_what_it_builds_on_counts_again",
        "tests/unit/test_flush_model.py::test_a_batch_leaves_what_its_writes_leave_one_after_the_other",
    ),
    _one(
        "a read forgets what leaves the buffer under it", "I9", "actors/lookup.py",
        "        left = reading.left.get(key)\n", "        left = None\n",
        TEST_READS + "test_a_read_sees_every_write_that_was_acknowledged_before_it_began",
    ),
    _one(
        "a cached copy outlives the write", "I9", "actors/lookup.py",
        "            await self._cache.drop([_cache_key(*key) for key in keys])\n", "            pass\n",
        TEST_READS + "test_a_read_sees_every_write_that_was_acknowledged_before_it_began",
    ),
    _one(
        "what an older stream knows better is told", "I9", "actors/lookup.py",
        "        if not self._older_poured:\n", "        if False:\n",
        "tests/unit/test_buffer.py::test_what_an_older_stream_may_know_better_is_neither_told_nor_cached",
    ),
    _one(
        "what may have been kept is told to be refused", "I3", "actors/lane.py",
        "    if began:  # this", "    if False:  # this",
        "tests/unit/test_lane_truth.py::test_what_a_caller_hears_is_so",
    ),
    _one(
        "acknowledge before append", "I1", INFLOW,
        "        appended = await self._log.append(payload, keyed, sent)\n",
        "        self._answer(group, [])\n        appended = await self._log.append(payload, keyed, sent)\n",
        TEST_INFLOW + "test_no_answer_before_the_log_has_it",
    ),
    _one(
        "2xx before the answer of the log", "I1", "serve_app/appends.py",
        "            kept = await self.own(append, size)\n",
        "            self._begun = asyncio.ensure_future(append())\n"
        '            return [Receipt("0of1", "1-0", 0, write.namespace, write.id) for write in writes], True\n',
        "tests/unit/test_api_writes.py::test_an_unknown_outcome_names_the_ids",
    ),
    _one(
        "acknowledge before the Report", "I1", OUTFLOW,
        "            sent, fresh = await self._apply(planned)\n",
        "            self._resolve(entries)\n            sent, fresh = await self._apply(planned)\n",
        TEST_OUTFLOW + "test_nothing_leaves_the_log_before_the_report",
    ),
    _one(
        "trim before the dead letter", "I1", OUTFLOW,
        "            await self._bury(entries, rejected)\n            await self._forget_buried(entries)\n",
        "            await self._forget_buried(entries)\n            await self._bury(entries, rejected)\n",
        TEST_OUTFLOW + "test_while_the_dead_letter_cannot_be_kept_its_write_stays_in_the_log",
    ),
    _one(
        "a rejection is told before the log has forgotten it", "I3", OUTFLOW,
        "            await self._forget_buried(entries)\n        self._resolve(entries, is_forgotten=bool(rejected))\n",
        "        self._resolve(entries, is_forgotten=False)\n",
        "tests/unit/test_buffer.py::test_what_was_told_to_be_rejected_does_not_come_back_with_a_restart",
    ),
    _one(
        "a drain that forgets what an earlier pool left", "I1", "actors/buffer.py",
        "        return self._backlog.open_writes + inherited.writes\n",
        "        return self._backlog.open_writes\n",
        "tests/unit/test_buffer.py::test_what_an_inherited_stream_holds_is_told_and_is_part_of_the_drain",
    ),
    _one(
        "a new writer believes whoever comes first", "I5", "actors/outbox.py",
        "if origin.stream not in self._epochs and not await self._owns(origin):", "if False:",
        "tests/unit/test_writer.py::test_a_new_writer_refuses_who_was_an_owner_before_it_began",
    ),
    _one(
        "a third pool begins before the first is poured", "I5", STREAMS,
        "if #left == 0 then\n  redis.call('DEL', KEYS[1])\n",
        "do left = {}\n  redis.call('DEL', KEYS[1])\n",
        TEST_LOG + "test_a_pool_follows_another_only_when_all_before_that_one_are_poured",
        POOLS,
    ),
    _one(
        "the pool before goes on taking writes", "I5", STREAMS,
        "    redis.call('INCR', ARGV[3] .. stream)\n    redis.call('DEL', ARGV[3] .. stream .. ':by')\n", "",
        TEST_LOG + "test_from_the_moment_a_pool_begins_no_buffer_of_the_one_before_keeps_anything",
        POOLS,
    ),
    _one(
        "a pool pours its own before what it has inherited", "I5", "actors/remote.py",
        "            return all(poured.values())\n", "            return True\n",
        POOLS,
    ),
    _one(
        "a letter forgotten before its replay is durable", "I1", "serve_app/dead_letters.py",
        "            receipts = await self._intake.append(writes)\n",
        "            await self._intake.forget_dead_letters([letter.id for letter in letters])\n"
        "            receipts = await self._intake.append(writes)\n",
        "tests/unit/test_api_dead_letters.py::test_a_letter_stays_until_its_write_is_durable_again",
    ),
    _one(
        "a letter that arrives late comes back", "I5", "actors/adapters/redis_dead_letters.py",
        "if not is_trimmed and ", "if ",
        "tests/contract/test_dead_letters.py::test_a_letter_that_arrives_late_does_not_come_back",
    ),
    _one(
        "a discard of more than its question counted", "I1", "cluster/dead_letters.py",
        "shelf.pages(act, selection, _PAGE, waiting, span)", "shelf.pages(act, selection, _PAGE, waiting)",
        "tests/unit/test_cli_dead_letters.py::test_what_comes_after_the_count_is_not_discarded",
    ),
    _one(
        "a server is not told to end what is given up", "I4", "actors/adapters/mongo_store.py",
        'timed = {**body, "maxTimeMS": self._most_ms}', "timed = body",
        "tests/contract/test_core_on_servers.py::"
        "test_a_server_that_hangs_and_greets_keeps_nothing_that_was_given_up",
    ),
    _one(
        "an answer that cannot be read is a refusal", "I1", "actors/adapters/mongo_store.py",
        "raise (CommandUnknown if left else CommandRefused)", "raise CommandRefused",
        "tests/contract/test_document_store.py::test_an_answer_that_cannot_be_read_tells_nothing_and_refuses_nothing",
    ),
    _one(
        "what a mongos gives up is taken for over", "I5", "actors/adapters/mongo_report.py",
        "if mongos.has_no_answer(error) or (", "if (",
        "tests/contract/test_document_store.py::"
        "test_a_write_of_which_a_mongos_has_no_answer_is_unknown_whatever_its_code",
    ),
    _one(
        "a mongos that stops waiting is taken for a mongod", "I5", "actors/adapters/mongo_store.py",
        "raise (CommandUnknown if gave_up else _kind_of(error))", "raise _kind_of(error)",
        "tests/contract/test_document_store.py::"
        "test_a_mongos_that_gives_up_a_command_leaves_it_unknown_in_whatever_words",
    ),
    _one(
        "a count goes beside a write", "I8", WRITER,
        "self._census.is_due and not self._tasks.under_way", "self._census.is_due",
        TEST_WRITER + "test_a_count_waits_until_nothing_else_is_under_way_and_nobody_waits_for_it",
    ),
    _one(
        "drop the duplicate rule", "I2", "actors/adapters/mongo_report.py",
        "        elif code == _DUPLICATE_KEY and _is_on_id(error):\n",
        "        elif code == -1 and _is_on_id(error):\n",
        "tests/contract/test_document_store.py::test_a_duplicate_counts_by_the_index_it_violates",
    ),
    _one(
        "a reopen that would leave a torn transaction open", "I1", LOG,
        "redis.call('SET', KEYS[2], ARGV[1])\nreturn epoch\n", "return epoch\n",
        "tests/contract/test_torn_log.py::test_a_reopen_is_a_transaction_in_the_file",
    ),
    _one(
        "idempotency conflict ignored", "I2", LOG,
        "    answers[#answers + 1] = 'C'\n",
        "    answers[#answers + 1] = 'K' .. string.sub(known, #fingerprint + 1)\n",
        TEST_LOG + "test_a_key_keeps_its_first_request[redis]",
    ),
    _one(
        "a known key answers for documents that it left out", "I1", "serve_app/parameters.py",
        'f"{self.fingerprint} {taken}".encode()', "self.fingerprint.encode()",
        "tests/unit/test_api_writes.py::test_an_idempotency_key_gives_no_receipt_for_what_other_limits_left_out",
    ),
    _one(
        "no epoch fence on append", "I3", LOG,
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return redis.error_reply('FENCED epoch ' .. ARGV[1]) end\n",
        "",
        TEST_LOG + "test_a_newer_owner_sees_everything_and_fences_the_older[redis]",
        TEST_LOG + "test_after_a_reopen_an_append_of_the_epoch_before_keeps_nothing",
    ),
    _one(
        "a former owner's acknowledgement counts", "I1", LOG,
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return redis.error_reply('FENCED owner ' .. ARGV[1]) end\n",
        "",
        TEST_LOG + "test_what_an_older_owner_has_seen_resolved_stays_for_the_newer_one[redis]",
    ),
    _one(
        "what is asked again is kept again", "I5", INFLOW,
        "call.payload and not self._log.place(call.sent)", "call.payload",
        "tests/unit/test_lane_truth.py::test_what_a_caller_hears_is_so",
    ),
    _one(
        "what may have been kept is asked again as something new", "I5", "actors/lane.py",
        "        call = self._again\n",
        "        call = self._again\n"
        "        self._number += 1\n"
        "        call = call and _Call(LaneCall(self._name, self._number, call.sent.writes), call.requests, True)\n",
        "tests/unit/test_lane_truth.py::test_what_a_caller_hears_is_so",
    ),
    _one(
        "a log of a newer format is taken", "I1", "actors/adapters/redis_format.py",
        "> tonumber(ARGV[{argument}]) then return format end", "> math.huge then return format end",
        "tests/contract/test_kept_forms.py::test_a_log_of_a_newer_format_is_refused_in_words_and_left_as_it_is",
    ),
    _one(
        "what a version before has kept is not read", "I1", LOG,
        "Arrivals.loads(arrivals[arrivals.index(b\"{\") :])", "Arrivals.loads(arrivals.partition(b\" \")[2])",
        "tests/contract/test_kept_forms.py::test_what_is_kept_so_is_read",
    ),
    _one(
        "calls kept in another form", "I5", LOG,
        "json.dumps(calls)]", 'json.dumps(calls, separators=(",", ":"))]',
        "tests/contract/test_kept_forms.py::test_everything_is_kept_in_the_form_that_other_versions_read",
    ),
    _one(
        "what a failing script has kept is told not to be kept", "I3", LINK,
        "if not connected or _nothing_was_done(error):", "if True:",
        "tests/contract/test_redis_link.py::test_an_append_that_fails_behind_an_entry_is_not_told_to_have_kept_nothing",
    ),
    _one(
        "calls forgotten with their entries", "I5", LOG,
        "self._arrivals.dumps()]", 'b"{}"]',
        "tests/contract/test_write_log.py::test_a_call_is_known_to_the_next_owner_and_to_all_behind",
    ),
    _one(
        "a late acknowledgement forgets calls", "I5", LOG,
        "if known < milliseconds or known == milliseconds and latest <= sequence then", "if true then",
        TEST_LOG + "test_an_acknowledgement_that_arrives_behind_a_later_one_forgets_no_call",
    ),
    _one(
        "a lost append taken for the one before it", "I1", "actors/core/arrivals.py",
        "if last.number < call.number:", "if last.number < call.number - 1:",
        "tests/unit/test_lane_truth.py::test_what_a_caller_hears_is_so",
    ),
    _one(
        "a drain that does not wait for an append", "I1", "actors/buffer.py",
        "        await self._inflow.idle()  # calls", "        # calls",
        "tests/unit/test_buffer.py::test_a_drain_waits_for_calls_that_were_let_in",
    ),
    _one(
        "a time that is up is taken for stored", "I8", "actors/remote_intake.py",
        '        if resolved is None:\n            return State("logged")\n',
        '        if resolved is None:\n            return State("stored")\n',
        "tests/unit/test_lanes.py::test_what_is_not_resolved_in_time_is_in_the_log_and_no_more",
    ),
    _one(
        "a tenure from the answer on", "I4", "actors/tenure.py",
        "                self._extend(asked_ns)\n            except",
        "                self._extend(self._clock.now_ns())\n            except",
        TEST_WRITER + "test_a_tenure_is_counted_from_before_the_lease_was_asked_for",
    ),
    _one(
        "a blink of MongoDB costs a lane", "I6", WRITER,
        "                self._budget.unsent()\n                self._lanes.release()\n",
        "                self._budget.unsent()\n",
        TEST_WRITER + "test_a_mongodb_that_goes_away_while_a_command_waits_for_the_budget_takes_neither_lane_nor_slot",
    ),
    _one(
        "a call that failed holds its room", "I7", INFLOW,
        "                call.answer.exception()\n        self._let_go(group)\n",
        "                call.answer.exception()\n",
        TEST_INFLOW + "test_a_call_that_is_over_holds_no_room_however_it_ended",
    ),
    Mutant(
        "a start-anchored limiter", "I4", PACING,
        (
            ("heapq.heappop(self._free_at)\n", "heapq.heapreplace(self._free_at, now + self.window_ns)\n"),
            ("        self._give_back(end + self.window_ns, cost)\n", "        pass\n"),
        ),
        (RING + "[unpaced]",),  # an even pace hides it
    ),
    _one("a token bucket", "I4", PACING, "class WindowGauge:", _BUCKET, RING + "[paced]", RING + "[unpaced]"),
    _one(
        "no quarantine", "I4", BUDGET,
        "        self._hold_until = max(self._hold_until, now + hold_ns)\n", "",
        CAP + "test_the_pace_is_no_part_of_the_proof",
        TEST_WRITER + "test_after_a_clean_end_a_writer_waits_one_window_before_its_first_command",
    ),
    _one(
        "an heir forgets the longer time of the writer before", "I5", "actors/tenure.py",
        "alone=asked_ns >= self._alone_ns", "alone=True",
        CAP + "test_a_writer_of_a_shorter_time_waits_for_what_one_of_a_longer_time_has_left_behind",
    ),
    _one(
        "what arrives late in the cache is believed", "I9", "actors/adapters/redis_cache.py",
        "value is not None and value.startswith(stamp)", "value is not None",
        "tests/contract/test_lease_and_cache.py::test_what_arrives_late_is_not_found_though_its_document_was_put_again",
    ),
    _one(
        "no R - C reserve", "I4", BUDGET,
        "self._slots = limit - lanes * cost_of(max_bytes, operation_bytes)", "self._slots = limit",
        CAP + "test_no_window_of_a_second_holds_more_than_r_executions_over_all_generations",
    ),
    _one(
        "lease not looked at before the send", "I4", BUDGET, "if wait <= 0 and may_send():", "if wait <= 0:",
        CAP + "test_no_window_of_a_second_holds_more_than_r_executions_over_all_generations",
        TEST_WRITER + "test_while_the_lease_cannot_be_renewed_nothing_is_sent_after_its_end",
    ),
    _one(
        "an unknown outcome is taken for an end", "I4", BUDGET,
        "        self.gauge.note(self._clock.now_ns())\n        self._unknown += cost\n",
        "        self.complete(cost)\n",
        TEST_WRITER + "test_an_unknown_outcome_closes_the_gate_until_mongodb_answers_and_the_longest_operation_is_over",
    ),
    _one(
        "pace removed", "I4", PACING,
        "        self.pace_ns = window_ns // slots if pace_ns is None else pace_ns\n", "        self.pace_ns = 0\n",
        "tests/unit/test_pacing.py::test_commands_leave_evenly",
        TEST_WRITER + "test_commands_leave_evenly_while_a_backlog_waits",
    ),
    _one(
        "unordered merge without later-wins", "I5", BATCHING,
        "            sent[place] = (write, len(before))\n", "            sent[place] = (write, 0)\n",
        "tests/unit/test_batching.py::test_the_rounds_in_any_order_inside_come_to_what_the_writes_in_order_come_to",
    ),
    _one(
        "the writer takes commands of an older owner", "I5", "actors/outbox.py",
        "            if origin.epoch < self._epochs.get(origin.stream, 0):\n", "            if origin.epoch < 0:\n",
        TEST_WRITER + "test_the_batch_of_an_older_owner_is_refused",
        POOLS,
    ),
    _one(
        "nobody asks MongoDB again", "I6", WRITER,
        "        self._reads.fail(reason)\n        self._lost.set()\n", "        self._reads.fail(reason)\n",
        TEST_WRITER + "test_a_command_that_was_not_sent_is_tried_again_later_and_cost_nothing",
    ),
    _one(
        "a fault waits for those who do not heed their end", "I6", "actors/life.py",
        "    _cancel(tasks)\n    for task", "    _cancel(tasks)\n    await asyncio.wait(tasks)\n    for task",
        "tests/unit/test_life.py::test_a_fault_ends_them_all_although_one_does_not_heed_its_cancellation",
    ),
    _one(
        "hysteresis removed", "I7", ROOM, "self._full = held > _REOPEN_AT", "self._full = held > 1.0",
        TEST_INFLOW + "test_a_full_buffer_refuses_and_opens_again_only_well_below_its_bound",
    ),
    _one(
        "bytes not bounded", "I7", ROOM, "held_bytes / self._bounds.max_bytes)", "0.0)",
        TEST_INFLOW + "test_bytes_are_bounded_too",
    ),
    _one(
        "a replica takes up whatever comes", "I7", "serve_app/turns.py",
        "            self._free -= 1\n", "            pass\n",
        "tests/unit/test_turns.py::test_so_many_at_once_and_the_others_in_the_order_they_came",
    ),
    _one(
        "a request in advance is a reason to read on", "I7", "serve_app/protocol.py",
        " and not self._queued", "",
        TEST_PROTOCOL + "test_requests_in_advance_are_answered_in_order_and_not_taken_up_at_once",
    ),
    _one(
        "a second attempt that is refused speaks for the first", "I3", "actors/lane.py",
        "    if began:  # this", "    if False:  # this",
        "tests/unit/test_lanes.py::test_what_may_have_been_kept_is_never_told_to_be_refused",
    ),
    _one(
        "a refusal in place of the answer to a write", "I3", "serve_app/protocol.py",
        "        elif cycle is not None and not cycle.response_complete:\n", "        elif False:\n",
        TEST_PROTOCOL + "test_a_refusal_is_not_taken_for_the_answer_to_what_came_whole",
    ),
    _one(
        "what stands behind an offer is a request", "I3", "serve_app/protocol.py",
        "            self._parse(head + data[offer.args[0] :])\n", "            self._parse(head)\n",
        TEST_PROTOCOL + "test_who_offers_another_protocol_is_answered_as_who_does_not",
    ),
    _one(
        "a dead log is noticed by its callers only", "I8", INFLOW,
        "                attempt += 1\n                self._lose_log(error)\n            await",
        "                attempt += 1\n            await",
        "tests/unit/test_buffer.py::test_a_log_that_is_away_is_noticed_within_two_seconds_and_so_is_its_return",
    ),
    _one(
        "a replica whose actors were ended stays", "I6", "serve_app/app.py",
        "        if gone := self._roll_call.gone():\n", "        if gone := []:\n",
        TEST_REPLICA + "test_a_replica_whose_actors_were_ended_for_others_is_not_healthy",
    ),
    _one(
        "a version that cannot run ends the actors of the one that does", "I6", "serve_app/app.py",
        "        await launch.refuse_unsafe_redis(settings)\n", "",
        TEST_REPLICA
        + "test_a_version_whose_redis_is_unsafe_ends_before_it_has_ended_the_actors_of_the_one_that_runs",
    ),
    _one(
        "a judge who misses what is stored twice", "I2", "loadtests/verdict.py",
        "            if place == FOUND:\n", "            if place < FOUND:\n",
        "tests/unit/test_verify.py::test_an_id_stored_twice",
    ),
    _one(
        "a judge who reads the witness' last record only", "I4", "loadtests/window.py",
        "    for path in (*earlier(record), record):\n", "    for path in (record,):\n",
        "tests/unit/test_window.py::test_a_record_is_readable_at_once_and_restarts_of_the_witness_erase_nothing",
    ),
)  # fmt: skip
