// Up to 5,000 users who never think, for thirteen minutes: is it ready, does it say success, and within 2 s?
import { SUMMARY_STATS, crowd } from './lib/load.js';
import { SUCCESS, ask } from './lib/data.js';
export { handleSummary, setup, teardown } from './lib/data.js';

const IN_TIME = 'success under 2 s'; // a quick refusal is none

export const options = {
  scenarios: {
    exam: crowd(
      [[60, 1000], [120, 2000], [180, 5000], [300, 5000], [120, 0]],
      [[10, 1000], [20, 2000], [30, 5000], [50, 5000], [20, 0]],
    ),
  },
  thresholds: {
    http_req_duration: ['p(95)<2000', 'p(99)<5000'],
    http_req_failed: ['rate<0.01'],
    // Each for itself: in one rate of both, 2 % of the answers could be late.
    [`checks{check:${SUCCESS}}`]: ['rate>0.99'],
    [`checks{check:${IN_TIME}}`]: ['rate>0.99'],
  },
  summaryTrendStats: SUMMARY_STATS,
};

const CHECKS = { [IN_TIME]: (answer) => answer !== null && answer.timings.duration < 2000 };

export default function () {
  ask(CHECKS);
}
