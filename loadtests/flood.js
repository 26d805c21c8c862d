// A closed loop on GET /api/data: each user asks again as soon as it was answered. Every answer is recorded for verify.py.
//
//   k6 run --console-output=answers.log --log-format=raw -e BASE_URL=http://127.0.0.1:8000 flood.js
//
// Environment: BASE_URL (several, comma-separated: users are dealt out among them), VUS (64), DURATION (60s),
// SUMMARY (a file for the figures, JSON). The recorded lines:
//   started <ms>               before the first request, Unix milliseconds
//   {"status":"success",...}   an accepted answer, as it came
//   unknown <status> <code>    no or a broken answer (k6's error code): its writes may appear in MongoDB, or not
//   refused <status> <code>    a clear no: its writes must never appear
//   stopped <ms> <status>      after the last answer, with the service's own GET /v1/status
import http from 'k6/http';
import { check } from 'k6';

const URLS = (__ENV.BASE_URL || 'http://127.0.0.1:8000').split(',').map((url) => url.trim().replace(/\/$/, ''));
const VUS = Number(__ENV.VUS || 64);

// The shape is asserted on the text: JSON.parse costs twice as much CPU here, and verify.py parses every line anyway.
const SUCCESS = /^\s*\{.*"status"\s*:\s*"success"/;
const FIVE_WRITES = /"writes"\s*:\s*\[\s*(?:"[^"]+"\s*,\s*){4}"[^"]+"\s*\]/;

export const options = {
  scenarios: {
    flood: {
      executor: 'constant-vus',
      vus: VUS,
      duration: __ENV.DURATION || '60s',
      // Longer than a request may take, so that no request is cut off with its outcome unrecorded.
      gracefulStop: '35s',
    },
  },
  thresholds: {
    http_req_failed: ['rate==0'],
    checks: ['rate==1'],
  },
  summaryTrendStats: ['avg', 'min', 'med', 'p(95)', 'p(99)', 'max'],
};

const REQUEST = { timeout: '30s' };
// The status question at the end is not part of the load: a service without it fails nothing.
const ASIDE = { timeout: '5s', responseCallback: null };

const CHECKS = { 'status is success, with five writes': (good) => good };

export function setup() {
  console.log(`started ${Date.now()}`);
}

export default function () {
  const answer = http.get(`${URLS[(__VU - 1) % URLS.length]}/api/data`, REQUEST);
  const accepted = answer.status === 200 || answer.status === 202;
  const good = accepted && SUCCESS.test(answer.body) && FIVE_WRITES.test(answer.body);
  check(good, CHECKS);
  if (good) {
    console.log(answer.body);
  } else {
    console.log(`${surelyRefused(answer) ? 'refused' : 'unknown'} ${answer.status} ${answer.error_code}`);
  }
}

// 4xx and 503 promise that nothing was kept; a connection that was never made (k6: 1100-1199 names, 1210-1213 dialling)
// carried nothing. Everything else, 504 and a broken 2xx included, says nothing about the writes.
function surelyRefused(answer) {
  const code = answer.error_code;
  if (answer.status === 0) return (code >= 1100 && code < 1200) || (code >= 1210 && code <= 1213);
  return (answer.status >= 400 && answer.status < 500) || answer.status === 503;
}

export function teardown() {
  const at = Date.now();
  const status = http.get(`${URLS[0]}/v1/status`, ASIDE);
  console.log(`stopped ${at} ${status.status === 200 ? status.body.replace(/\s*\n\s*/g, ' ') : 'null'}`);
}

export function handleSummary(data) {
  const of = (name) => (data.metrics[name] ? data.metrics[name].values : {});
  const ms = (value) => (value === undefined ? '-' : `${value.toFixed(1)} ms`);
  const time = of('http_req_duration');
  const rounds = of('iterations');
  const failed = of('http_req_failed');
  const text = [
    '',
    `flood: ${VUS} users, ${rounds.count || 0} requests, ${(rounds.rate || 0).toFixed(0)} requests/s, ${failed.passes || 0} failed`,
    `       median ${ms(time.med)}, p95 ${ms(time['p(95)'])}, p99 ${ms(time['p(99)'])}, max ${ms(time.max)}`,
    '',
  ].join('\n');
  const files = { stdout: text };
  if (__ENV.SUMMARY) files[__ENV.SUMMARY] = JSON.stringify({ users: VUS, urls: URLS, ...data }, null, 1);
  return files;
}
