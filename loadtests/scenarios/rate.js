// 25, 50, 75, 100 and 125 % of CAPACITY (requests/s), each for a while, whether answers come or not. The only source of
// claims about latency: users who wait for their answers ask a slow service less, and so hide how slow it is.
import { QUICK, SUMMARY_STATS, apart, arrivals } from './lib/load.js';
export { default, handleSummary, setup, teardown } from './lib/data.js';

const CAPACITY = Number(__ENV.CAPACITY || 1000);
const PERCENT = [25, 50, 75, 100, 125];
const SECONDS = Math.max(2, Math.round(Number(__ENV.SECONDS || (QUICK ? 50 : 300)) / PERCENT.length));
const PAUSE = 3; // what one step left undone is no burden of the next

const scenarios = {};
const thresholds = {};
PERCENT.forEach((percent, step) => {
  const name = `at${percent}`;
  scenarios[name] = arrivals((CAPACITY * percent) / 100, SECONDS, step * (SECONDS + PAUSE));
  Object.assign(thresholds, apart(name), { [`dropped_iterations{scenario:${name}}`]: ['count>=0'] });
  if (percent <= 75) {
    thresholds[`http_req_duration{scenario:${name}}`] = ['p(99)<=1000'];
    thresholds[`http_req_failed{scenario:${name}}`] = ['rate==0'];
    thresholds[`checks{scenario:${name}}`] = ['rate==1'];
    thresholds[`dropped_iterations{scenario:${name}}`] = ['count==0'];
  }
});

export const options = { scenarios, thresholds, summaryTrendStats: SUMMARY_STATS };
