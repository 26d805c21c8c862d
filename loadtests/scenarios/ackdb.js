// 1,000 writes/s (RATE), each answered when MongoDB has it: `POST ...?ack=db`. Open model, p95 below 100 ms.
// The documents look like those of GET /api/data, so that the same judge reads them.
import http from 'k6/http';
import { check } from 'k6';
import { QUICK, SUMMARY_STATS, URLS, arrivals } from './lib/load.js';
import { accepted, begin, end, notAccepted } from './lib/record.js';
export { handleSummary } from './lib/summary.js';

const RATE = Number(__ENV.RATE || 1000);
const SECONDS = Number(__ENV.SECONDS || (QUICK ? 15 : 60));

export const options = {
  scenarios: { ackdb: arrivals(RATE, SECONDS) },
  thresholds: {
    http_req_duration: ['p(95)<100'],
    http_req_failed: ['rate==0'],
    checks: ['rate==1'],
    dropped_iterations: ['count==0'],
  },
  summaryTrendStats: SUMMARY_STATS,
};

// 512 random characters a request are dear in JavaScript: sixteen picks of 256 pieces are never the same twice either.
const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';
const letter = () => LETTERS[Math.floor(Math.random() * LETTERS.length)];
const PIECES = Array.from({ length: 256 }, () => Array.from({ length: 32 }, letter).join(''));

function payload() {
  let text = '';
  for (let piece = 0; piece < 16; piece++) text += PIECES[Math.floor(Math.random() * 256)];
  return text;
}

const POST = { timeout: '35s', headers: { 'Content-Type': 'application/json' } };
const STORED = /"id"\s*:\s*"([^"]+)".*"state"\s*:\s*"stored"/s;
const CHECKS = { '201, and stored': (good) => good };

export const setup = () => begin(1);
export const teardown = end;

export default function () {
  const now = new Date().toISOString();
  const body = `{"type":"write","index":0,"payload":"${payload()}","timestamp":{"$date":"${now}"}}`;
  const answer = http.post(`${URLS[(__VU - 1) % URLS.length]}/v1/assessmentdb/records?ack=db`, body, POST);
  const stored = answer.status === 201 ? STORED.exec(answer.body) : null;
  check(stored !== null, CHECKS);
  if (stored) accepted(answer, `{"status":"success","reads":[],"writes":["${stored[1]}"]}`);
  else notAccepted(answer);
}
