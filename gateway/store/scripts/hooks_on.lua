-- hooks_on: webhooks follow this partition's events from now on; accounts whose messages name receivers are remembered.
--
-- ARGV  accounts …
-- Idempotent: who follows already goes on from where it is.

local function hooks_on(keys, args)
  begin(keys)
  expect(args, {}, {NAME})
  local last = call('XREVRANGE', P .. 'e', '+', '-', 'COUNT', 1)[1]
  local fresh = call('HSETNX', P .. 'g', 'webhooks', last and last[1] or '0-0')
  for i = 1, #args do fresh = fresh + call('HSET', P .. 'ga', args[i], now) end
  if fresh > 0 then call('INCR', P .. 'gv') end
  return 1
end
