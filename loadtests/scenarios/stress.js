// 1,200 users with 0.8 s of thought: at least 1,000 requests/s. Then more and more of them, up to the breaking point: the
// first step with a p95 above 2 s, or 1 % failed or without success. The users of a step come all at once, so each first waits a random part
// of 0.8 s: without it they would all ask in the same instant, every 0.8 s, for ever.
import { QUICK, SUMMARY_STATS, apart, group, stages } from './lib/load.js';
export { default, handleSummary, setup, teardown } from './lib/data.js';

const THINK = [0.8, 0.8];
const CROWDS = [1200, 1800, 2700, 4000, 6000]; // k6 may hold the connections of all of them: 20,000 files are enough
const STEPS = stages(
  CROWDS.map((users, step) => [step ? 30 : 60, users]),
  CROWDS.map((users, step) => [step ? 10 : 15, users]),
);
if (STEPS[STEPS.length - 1][1] < 9) throw new Error('stress takes 9 users at least: with fewer its steps are alike');

const scenarios = {};
const thresholds = {};
let start = 0;
for (const [seconds, users] of STEPS) {
  const name = `users${users}`;
  const wanted = start ? 0 : (1000 * users) / 1200;
  scenarios[name] = group([seconds, users], THINK, start, wanted);
  Object.assign(thresholds, apart(name));
  start += seconds + (QUICK ? 1 : 3); // the next crowd finds the last one gone
}
thresholds[`http_req_failed{scenario:users${STEPS[0][1]}}`] = ['rate==0'];
thresholds[`checks{scenario:users${STEPS[0][1]}}`] = ['rate==1'];

export const options = { scenarios, thresholds, summaryTrendStats: SUMMARY_STATS };
