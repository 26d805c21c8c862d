// One address, neither checked nor recorded: for `limits`, which compares what a request costs the services. Without
// thought, or RATE requests a second: a service that gets through more of them at once spends less on each.
import http from 'k6/http';
import { SUMMARY_STATS, URLS, arrivals, group, stages } from './lib/load.js';
export { handleSummary } from './lib/summary.js';

const RATE = Number(__ENV.RATE || 0);
const [most] = stages([[15, 64]], [[5, 64]]);

export const options = {
  scenarios: { bare: RATE ? arrivals(RATE, most[0]) : group(most) },
  thresholds: { http_req_failed: ['rate==0'] },
  discardResponseBodies: true,
  summaryTrendStats: SUMMARY_STATS,
};

export default function () {
  http.get(URLS[(__VU - 1) % URLS.length]);
}
