// A flood while the service is killed: users who were not answered wait a moment before they ask again. `compare` runs it.
import { sleep } from 'k6';
import { SUMMARY_STATS, group, stages } from './lib/load.js';
import { ask } from './lib/data.js';
export { handleSummary, setup, teardown } from './lib/data.js';

export const options = {
  // On a connection that was used before and dies under a request, Go's transport sends the request again without a word,
  // and only the second outcome is told: `refused`, though the first may have been kept and would be called a ghost.
  noConnectionReuse: true,
  scenarios: { kill: group(stages([[30, 64]], [[10, 64]])[0]) },
  thresholds: { http_reqs: ['count>0'] }, // requests fail here; the judge tells whether anything was lost
  summaryTrendStats: SUMMARY_STATS,
};

export default function () {
  if (!ask()) sleep(0.2);
}
