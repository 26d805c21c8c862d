// 10,000 users for two hours, who came within a minute: does anything grow that should not?
import { SUMMARY_STATS, crowd } from './lib/load.js';
export { default, handleSummary, setup, teardown } from './lib/data.js';

export const options = {
  scenarios: {
    endurance: crowd(
      [[60, 10000], [7200, 10000]],
      [[15, 10000], [120, 10000]],
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
