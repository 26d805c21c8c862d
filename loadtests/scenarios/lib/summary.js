// k6's figures at the end: a line for people, and JSON into the file that SUMMARY names.
export function handleSummary(data) {
  const of = (name) => (data.metrics[name] ? data.metrics[name].values : {});
  const ms = (value) => (value === undefined ? '-' : `${value.toFixed(1)} ms`);
  const time = of('http_req_duration');
  const rounds = of('iterations');
  const text = [
    `k6: ${rounds.count || 0} requests, ${(rounds.rate || 0).toFixed(0)} requests/s, ${of('http_req_failed').passes || 0} failed;`,
    `median ${ms(time.med)}, p95 ${ms(time['p(95)'])}, p99 ${ms(time['p(99)'])}, max ${ms(time.max)}\n`,
  ].join(' ');
  const files = { stdout: text };
  if (__ENV.SUMMARY) files[__ENV.SUMMARY] = JSON.stringify(data, null, 1);
  return files;
}
