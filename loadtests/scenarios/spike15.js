// The spike with half as many again: 15,000 users.
import { SUMMARY_STATS, crowd } from './lib/load.js';
export { default, handleSummary, setup, teardown } from './lib/data.js';

export const options = {
  scenarios: {
    spike15: crowd(
      [[60, 7500], [60, 15000], [120, 15000], [30, 0]],
      [[10, 7500], [10, 15000], [30, 15000], [5, 0]],
      [10, 15],
    ),
  },
  noConnectionReuse: true, // every request on a connection of its own, as `Connection: close` says to both sides
  thresholds: {
    http_req_failed: ['rate<0.01'],
    checks: ['rate>0.99'],
    http_req_duration: ['p(95)<=2000', 'p(99)<=5000'],
    http_req_connecting: ['p(99)<1000'], // no part of the duration; a full queue costs a second in it
  },
  summaryTrendStats: SUMMARY_STATS,
};
