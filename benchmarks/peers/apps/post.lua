-- wrk ... -- BODY-FILE [HEADER VALUE]...: post the file, and tell the figures on one line.
function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.method = "POST"
  wrk.body = file:read("*all")
  file:close()
  for place = 2, #args, 2 do
    wrk.headers[args[place]] = args[place + 1]
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("figures %d %d %d %d %d %d\n", summary.requests, summary.duration,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
