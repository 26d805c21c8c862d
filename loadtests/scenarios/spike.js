// 10,000 users within two minutes, gone after another two; no connection is used twice.
import { SUMMARY_STATS, crowd } from './lib/load.js';
export { default, handleSummary, setup, teardown } from './lib/data.js';

export const options = {
  scenarios: {
    spike: crowd(
      [[60, 5000], [60, 10000], [120, 10000], [30, 0]],
      [[10, 5000], [10, 10000], [30, 10000], [5, 0]],
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
