-- For wrk: posts the files of a folder (0.png, 1.png, ...), one after the other, and counts what came back.
--
--     wrk -t1 -c8 -d10s --latency -s post.lua http://127.0.0.1:8000/ -- FOLDER COUNT TYPE

local requests = {}
local last = -1

function init(args)
  for number = 0, tonumber(args[2]) - 1 do
    local file = assert(io.open(args[1] .. "/" .. number .. ".png", "rb"))
    requests[number] = wrk.format("POST", "/v1/predict", {["Content-Type"] = args[3]}, file:read("*a"))
    file:close()
  end
end

function request()
  last = (last + 1) % (#requests + 1)
  return requests[last]
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "seconds": %.6f, "median_ms": %.3f, "p99_ms": %.3f, "max_ms": %.3f, "not_200": %d, "failed": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
