// One address, neither checked nor recorded: for `limits`, which compares what a request costs the services.
import http from 'k6/http';
import { SUMMARY_STATS, URLS, group, stages } from './lib/load.js';
export { handleSummary } from './lib/summary.js';

export const options = {
  scenarios: { bare: group(stages([[15, 64]], [[5, 64]])[0]) },
  thresholds: { http_req_failed: ['rate==0'] },
  discardResponseBodies: true,
  summaryTrendStats: SUMMARY_STATS,
};

export default function () {
  http.get(URLS[(__VU - 1) % URLS.length]);
}
