-- Reads, and route keys. Invariant: a read never answers from a store that is not whole.

-- Key 3: a request. Answers body hash and binding, or ''.
reads('answered', function(keys, args)
  return {'OK', redis.call('GET', keys[3]) or ''}
end)

-- Key 3: a binding. Answers record, order tag and the sequence to wait for.
reads('get', function(keys, args)
  local got = redis.call('HMGET', keys[3], 'r', 'o', 'sq')
  return {'OK', got[1] or '', got[2] or '', pending(keys, got[3])}
end)

-- Keys from 3: bindings. Answers their versions, '0' where there is none.
reads('versions', function(keys, args)
  local found = {'OK'}
  for place = 3, #keys do
    found[place - 1] = redis.call('HGET', keys[place], 'v') or '0'
  end
  return found
end)

-- Key 3: tags on a number. args: 3 digits, 4 where to begin. Answers the first free extension, or ''.
reads('extension', function(keys, args)
  local size, now = 10 ^ tonumber(args[3]), now_ms()
  for step = 0, size - 1 do
    local extension = string.format('%0' .. args[3] .. '.0f', (tonumber(args[4]) + step) % size)
    local mark = redis.call('HGET', keys[3], 'x' .. extension)
    if not mark or (tonumber(mark) and tonumber(mark) <= now) then return {'OK', extension} end
  end
  return {'OK', ''}
end)

-- Key 3: an index. args: 3 the last id of the page before or '', 4 how many.
reads('page', function(keys, args)
  local from = args[3] == '' and '-' or '(' .. args[3]
  return {'OK', unpack(redis.call('ZRANGEBYLEX', keys[3], from, '+', 'LIMIT', 0, args[4]))}
end)

-- Key 3: expiry or forget. args: 3 how many. Answers the store's clock and the ids that are due.
reads('due', function(keys, args)
  local now = whole(now_ms())
  return {'OK', now, unpack(redis.call('ZRANGEBYSCORE', keys[3], '-inf', now, 'LIMIT', 0, args[3]))}
end)

-- Key 3: expiry or forget. args: 3 id, 4 until when. Only the order of work changes.
reads('postpone', function(keys, args)
  redis.call('ZADD', keys[3], 'XX', args[4], args[3])
  return {'OK'}
end)

-- Sets a route key if there is none. Key 3: the key. args: 3 record, 4 outbox entry. Answers the
-- record that stands and the sequence to wait for.
reads('put_key', function(keys, args)
  local got = redis.call('HMGET', keys[3], 'r', 'sq')
  if got[1] then return {'OK', got[1], pending(keys, got[2])} end
  local refusal = cell_check(keys, args)
  if refusal then return refusal end
  local sequence = whole(cell_append(keys, args[4]))
  redis.call('HSET', keys[3], 'r', args[3], 'sq', sequence, 'v', '1')
  return {'OK', args[3], sequence}
end)

-- Heal: the last record of a route key on its topic. args: 3 record ('': a tombstone), 4 version.
reads('restore_key', function(keys, args)
  if args[3] == '' then
    redis.call('DEL', keys[3])
  else
    redis.call('HSET', keys[3], 'r', args[3], 'sq', '0', 'v', args[4])
  end
  return {'OK'}
end)
