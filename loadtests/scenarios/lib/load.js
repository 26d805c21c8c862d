// Who is asked, by how many, for how long. Each scenario says its numbers once, in full and compressed (`--quick`).
//
// Environment: BASE_URL (several, comma-separated: users are dealt out among them), QUICK=1 (the compressed times),
// USERS (scales all user counts, so that the largest is this), SECONDS (scales all times, so that they sum up to this).
export const URLS = (__ENV.BASE_URL || 'http://127.0.0.1:8080').split(',').map((url) => url.trim().replace(/\/$/, ''));
export const QUICK = __ENV.QUICK === '1';
const USERS = Number(__ENV.USERS || 0);
const SECONDS = Number(__ENV.SECONDS || 0);
// Longer than a request may take, so that no request is cut off with its outcome unrecorded.
export const GRACE = '35s';

export const SUMMARY_STATS = ['avg', 'min', 'med', 'p(90)', 'p(95)', 'p(99)', 'max'];

// `full` and `quick` are lists of [seconds, users]. The scaled one that counts.
export function stages(full, quick) {
  const chosen = QUICK ? quick : full;
  const longer = SECONDS ? SECONDS / chosen.reduce((sum, [seconds]) => sum + seconds, 0) : 1;
  const more = USERS ? USERS / Math.max(...chosen.map(([, users]) => users)) : 1;
  return chosen.map(([seconds, users]) => [Math.max(1, Math.round(seconds * longer)), Math.round(users * more)]);
}

// Users who come and go: each stage ends with its number of users. `think` is [least, most] seconds between requests.
export function crowd(full, quick, think) {
  return {
    executor: 'ramping-vus',
    stages: stages(full, quick).map(([seconds, users]) => ({ duration: `${seconds}s`, target: users })),
    gracefulRampDown: GRACE,
    gracefulStop: GRACE,
    ...(think && { env: { THINK: think.join('-') } }),
  };
}

// The same number of users all the time, from `start` seconds on; those who think begin within their first think time.
// `wanted`: requests/s that have to be answered; the laboratory counts them, since k6 also counts what was answered after
// the end.
export function group([seconds, users], think, start = 0, wanted = 0) {
  return {
    executor: 'constant-vus',
    vus: users,
    duration: `${seconds}s`,
    startTime: `${start}s`,
    gracefulStop: GRACE,
    env: { ...(think && { THINK: think.join('-'), TOGETHER: `at ${start} s` }), ...(wanted && { WANTED_PER_S: `${wanted}` }) },
  };
}

// So many requests a second, whether they are answered or not: an open model, in which a slow service cannot slow its
// users down. Requests that found no free user are k6's dropped_iterations.
export function arrivals(perSecond, seconds, start = 0) {
  return {
    executor: 'constant-arrival-rate',
    rate: Math.max(1, Math.round(perSecond)),
    timeUnit: '1s',
    duration: `${seconds}s`,
    startTime: `${start}s`,
    preAllocatedVUs: Math.max(20, Math.ceil(perSecond / 4)),
    maxVUs: Math.max(100, Math.ceil(perSecond * 1.2)), // enough for answers after 1.2 s; each takes k6 memory
    gracefulStop: GRACE,
  };
}

// Makes k6 keep the figures of one scenario apart. An expression that ends in `>=0` judges nothing.
export function apart(name) {
  return {
    [`http_req_duration{scenario:${name}}`]: ['max>=0'],
    [`http_req_failed{scenario:${name}}`]: ['rate>=0'],
    [`checks{scenario:${name}}`]: ['rate>=0'],
  };
}
