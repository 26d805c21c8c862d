// A closed loop without thought: each user asks again as soon as it was answered. How much goes through?
import { SUMMARY_STATS, group, stages } from './lib/load.js';
export { default, handleSummary, setup, teardown } from './lib/data.js';

export const options = {
  scenarios: { flood: group(stages([[60, 64]], [[15, 64]])[0]) },
  thresholds: { http_req_failed: ['rate==0'], checks: ['rate==1'] },
  summaryTrendStats: SUMMARY_STATS,
};
