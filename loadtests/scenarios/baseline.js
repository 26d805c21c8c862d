// 100 users for a minute, who ask again as soon as they are answered: what an ordinary day looks like.
import { SUMMARY_STATS, group, stages } from './lib/load.js';
export { default, handleSummary, setup, teardown } from './lib/data.js';

export const options = {
  scenarios: { baseline: group(stages([[60, 100]], [[10, 100]])[0]) },
  thresholds: {
    http_req_failed: ['rate==0'],
    checks: ['rate==1'],
    http_req_duration: ['p(95)<=500', 'p(99)<=1000'],
  },
  summaryTrendStats: SUMMARY_STATS,
};
