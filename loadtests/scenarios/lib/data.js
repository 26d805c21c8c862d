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
  if (__ENV.TOGETHER !== crowd) arrive();
  const answer = http.get(`${URLS[(__VU - 1) % URLS.length]}/api/data`, REQUEST);
  const body = answer.body; // once: each look at it makes a string of the bytes
  const good = (answer.status === 200 || answer.status === 202) && succeeded(body) && hasFiveWrites(body);
  check(good, CHECKS);
  if (more) check(good ? answer : null, more);
  if (good) accepted(answer, body);
  else notAccepted(answer);
  if (__ENV.THINK) sleep(thought());
  return good;
}

// Users who come all at once and think equally long would ask in bursts for ever.
let crowd; // the one this user last came with: k6 hands users on from step to step, and __ITER counts on
function arrive() {
  crowd = __ENV.TOGETHER;
  sleep(Math.random() * thought());
}

let range; // of the think time: the scenario's own, the same in all its steps, not known before an iteration begins
function thought() {
  if (!range) range = __ENV.THINK.split('-').map(Number);
  return range[0] + Math.random() * (range[1] - range[0]);
}

export default function () {
  ask();
}
