-- The queues of webhooks (webhooks_*).

-- Delete the state of an empty queue; one that has dead letters keeps their counts.
local function delete_if_empty(queue, state)
  if call('LLEN', P .. 'sh:' .. queue) > 0 then return end
  if call('EXISTS', P .. 'dh:' .. queue) == 1 then
    call('HDEL', state, 'n', 'h', 'f', 'c')
  else
    call('DEL', state)
    call('SREM', P .. 's', queue)
  end
end
