// What is kept of every request, for the judge (verify.py) and for the plots. One line of text each, by console.log:
//   started <ms> <writes> <status>  before the first request, Unix milliseconds; writes in each request; the service's
//                                   own GET /v1/status, which tells whose figures those after the run are
//   <ms> <took> {"status":...}      an accepted answer as it came; when it came, and after how many milliseconds
//   unknown <status> <code> <ms> <took>   no or a broken answer (k6's error code): its writes may be stored, or not
//   refused <status> <code> <ms> <took>   a clear no: its writes must never appear
//   stopped <ms> <status>           after the last answer, with the status once more
import { sleep } from 'k6';
import http from 'k6/http';
import exec from 'k6/execution';
import { URLS } from './load.js';

export const REQUEST = { timeout: '30s' };
// Questions that are no part of the load: a service without the page fails nothing.
const ASIDE = { timeout: '5s', responseCallback: null };
// With what the questions take themselves well within the 60 s that k6 gives to setup().
const WRITER_WAIT_MS = 15000;

export function begin(writes) {
  const ready = http.get(`${URLS[0]}/readyz`, ASIDE);
  if (ready.status !== 200) exec.test.abort(`${URLS[0]}/readyz answered ${ready.status || ready.error}`);
  const found = statusWithWriter();
  console.log(`started ${Date.now()} ${writes} ${found}`);
}

export function end() {
  const at = Date.now();
  console.log(`stopped ${at} ${status()}`);
}

// A writer that begins just now, or a status nobody answers for an instant, would fail a run without a witness: nobody
// could tell whether one writer did all of it.
function statusWithWriter() {
  const until = Date.now() + WRITER_WAIT_MS;
  let answer = ask();
  while (mayNameWriter(answer) && Date.now() < until) {
    sleep(0.5);
    answer = ask();
  }
  return told(answer);
}

// Whether it names no writer yet. Others than Spillway have no such page, or one that says nothing of being ready.
function mayNameWriter(answer) {
  if (answer.status !== 200) return answer.status !== 404;
  try {
    const { ready, writer } = answer.json();
    return ready !== undefined && !(writer?.epoch > 0);
  } catch {
    return false;
  }
}

const status = () => told(ask());
const ask = () => http.get(`${URLS[0]}/v1/status`, ASIDE);
const told = (answer) => (answer.status === 200 ? answer.body.replace(/\s*\n\s*/g, ' ') : 'null');

export function accepted(answer, body) {
  console.log(`${Date.now()} ${answer.timings.duration.toFixed(1)} ${body}`);
}

export function notAccepted(answer) {
  const word = surelyRefused(answer) ? 'refused' : 'unknown';
  console.log(`${word} ${answer.status} ${answer.error_code} ${Date.now()} ${answer.timings.duration.toFixed(1)}`);
}

// 4xx and 503 promise that nothing was kept, but for 499, which is Serve's word for a request it gave up; a connection that was never made (k6: 1100-1199 names, 1210-1213 dialling)
// carried nothing. Everything else, 504 and a broken 2xx included, says nothing about the writes.
function surelyRefused(answer) {
  const code = answer.error_code;
  if (answer.status === 0) return (code >= 1100 && code < 1200) || (code >= 1210 && code <= 1213);
  return (answer.status >= 400 && answer.status < 499) || answer.status === 503;
}
