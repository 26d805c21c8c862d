// From nobody to 10,000 users in five minutes, each thinking 10 to 15 s between two requests.
import { SUMMARY_STATS, crowd } from './lib/load.js';
export { default, handleSummary, setup, teardown } from './lib/data.js';

export const options = {
  scenarios: {
    ramp: crowd(
      [[300, 10000]],
      [[50, 10000]],
      [10, 15],
    ),
  },
  thresholds: {
    http_req_failed: ['rate<0.01'],
    checks: ['rate>0.99'],
    http_req_duration: ['p(95)<=2000', 'p(99)<=5000'],
  },
  summaryTrendStats: SUMMARY_STATS,
};
