-- The queues of webhooks (hooks_*).

-- A queue that is empty is forgotten, but for its dead letters.
local function let_go(queue, state)
  if call('LLEN', P .. 'sh:' .. queue) > 0 then return end
  if call('EXISTS', P .. 'dh:' .. queue) == 1 then
    call('HDEL', state, 'n', 'h', 'f', 'c')
  else
    call('DEL', state)
    call('SREM', P .. 's', queue)
  end
end
