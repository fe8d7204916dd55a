-- SPDX-License-Identifier: MIT
-- What wrk sends in the HTTP benchmark, and its result as one line of JSON.

-- wrk ... -s http_wrk.lua URL -- [--pipeline DEPTH] [--post BYTES] [--fields TEXT]
--
-- The text of --fields is that of a head but for its request line and its end, and a number comes behind it that is
-- another with each request.

local depth = 1
local number = 0

function init(args)
  for i = 1, #args, 2 do
    if args[i] == "--pipeline" then
      depth = tonumber(args[i + 1])
    elseif args[i] == "--post" then
      wrk.method = "POST"
      wrk.body = string.rep("0123456789abcdef", tonumber(args[i + 1]) / 16)
    elseif args[i] == "--fields" then
      local head = "GET " .. wrk.path .. " HTTP/1.1\r\n" .. args[i + 1]
      request = function()
        number = number + 1
        return head .. string.format("%09d\r\n\r\n", number)
      end
    end
  end
  if depth > 1 then
    -- wrk counts the requests that are in one text, and waits for as many answers before it sends the next.
    local batch = string.rep(wrk.format(), depth)
    request = function() return batch end
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.6f, "bytes": %d, "p50_us": %d, "p99_us": %d, "errors": %d, "bad_statuses": %d}\n',
    summary.requests, summary.duration / 1e6, summary.bytes, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.timeout, errors.status))
end
