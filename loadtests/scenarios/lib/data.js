// One user of GET /api/data: ask, check, record, think.
import http from 'k6/http';
import { check, sleep } from 'k6';
import { URLS } from './load.js';
import { REQUEST, accepted, begin, end, notAccepted } from './record.js';
export { handleSummary } from './summary.js';

// The shape is looked for in the text: JSON.parse and regular expressions cost several times as much CPU, which the
// service then lacks, and the judge parses every line anyway.
const STATUS = /"status"\s*:\s*"success"/;

function succeeded(body) {
  return body.includes('"status":"success"') || STATUS.test(body);
}

function hasFiveWrites(body) {
  const at = body.indexOf('"writes"');
  return at >= 0 && body.slice(at, body.indexOf(']', at)).split('"').length === 13; // of the name and of five ids
}

export const SUCCESS = 'status is success with five writes'; // no comma: thresholds name it
const CHECKS = { [SUCCESS]: (good) => good };

export const setup = () => begin(5);
export const teardown = end;

// `more`: checks of the answer where it is good, and of null where it is not.
export function ask(more) {
  const answer = http.get(`${URLS[(__VU - 1) % URLS.length]}/api/data`, REQUEST);
  const good = (answer.status === 200 || answer.status === 202) && succeeded(answer.body) && hasFiveWrites(answer.body);
  check(good, CHECKS);
  if (more) check(good ? answer : null, more);
  if (good) accepted(answer, answer.body);
  else notAccepted(answer);
  if (__ENV.THINK) think(__ENV.THINK); // the scenario's own, so it is not known before an iteration begins
  return good;
}

function think(range) {
  const [least, most] = range.split('-').map(Number);
  sleep(least + Math.random() * (most - least));
}

export default function () {
  ask();
}
