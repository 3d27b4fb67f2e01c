-- webhooks_follow: keep this partition's events for webhooks from now on; remember accounts whose messages name URLs.
--
-- ARGV  accounts …
-- reply 1
-- Idempotent: a partition that is followed already keeps its position.

local function webhooks_follow(keys, args)
  begin(keys)
  expect(args, {}, {NAME})
  local last = call('XREVRANGE', P .. 'e', '+', '-', 'COUNT', 1)[1]
  local added = call('HSETNX', P .. 'g', 'webhooks', last and last[1] or '0-0')
  for i = 1, #args do added = added + call('HSET', P .. 'ga', args[i], now) end
  if added > 0 then call('INCR', P .. 'gv') end
  return 1
end
