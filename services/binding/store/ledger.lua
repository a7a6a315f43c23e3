-- The ledger of retention: what was purged and erased. Invariant: a version is written only from the
-- one that was read, together with the request that it answers and what is published of it.

-- Key 3: the record, 4: the names of its kind, 5: the request, if there is one. args: 3 version it
-- was made from ('0': none), 4 its version, 5 record ('': it ends), 6 outbox entry, 7 its name,
-- 8 body hash and name for the request.
writes('enter', function(keys, args)
  local known = keys[5] and redis.call('GET', keys[5])
  if known then return {'KNOWN', known} end
  if (redis.call('HGET', keys[3], 'v') or '0') ~= args[3] then return {'STALE'} end
  local sequence = whole(cell_append(keys, args[6]))
  if args[5] == '' then
    redis.call('DEL', keys[3])
    redis.call('ZREM', keys[4], args[7])
  else
    redis.call('HSET', keys[3], 'v', args[4], 'r', args[5], 'sq', sequence)
    redis.call('ZADD', keys[4], 0, args[7])
  end
  if keys[5] then redis.call('SET', keys[5], args[8], 'PX', REQUEST_LIFE_MS) end
  return {'OK', sequence}
end)

-- Key 3: a record of the ledger. Answers it, its version and the sequence to wait for.
reads('entered', function(keys, args)
  local got = redis.call('HMGET', keys[3], 'r', 'v', 'sq')
  return {'OK', got[1] or '', got[2] or '0', pending(keys, got[3])}
end)

-- Heal: the newer wins. Keys 3, 4 as in `enter`, 5 the request. args: 3 version, 4 record ('': a
-- tombstone), 5 its name, 6 value of the request, 7 how long that is still known, in ms.
reads('restore_entered', function(keys, args)
  local version = tonumber(redis.call('HGET', keys[3], 'v') or '0')
  if tonumber(args[3]) < version then return {'OK'} end
  if args[4] == '' then
    redis.call('DEL', keys[3])
    redis.call('ZREM', keys[4], args[5])
    return {'OK'}
  end
  redis.call('HSET', keys[3], 'v', args[3], 'r', args[4], 'sq', '0')
  redis.call('ZADD', keys[4], 0, args[5])
  if keys[5] and tonumber(args[7]) > 0 then redis.call('SET', keys[5], args[6], 'PX', args[7]) end
  return {'OK'}
end)

-- Key 3: expiry or forget. args: 3 score. Answers some ids with no higher one.
reads('overdue', function(keys, args)
  return {'OK', unpack(redis.call('ZRANGEBYSCORE', keys[3], '-inf', args[3], 'LIMIT', 0, 500))}
end)

-- A binding that is shown to nobody any more, ended or not. Keys and args as in apply.lua; 18: the
-- version it was made from.
writes('restrict', function(keys, args)
  if redis.call('HGET', keys[3], 'v') ~= args[18] then return {'STALE'} end
  local sequence = whole(cell_append(keys, args[14]))
  apply(keys, args, sequence)
  return {'OK', sequence}
end)

-- Publishes what has no state here. args: 3 outbox entry.
writes('tell', function(keys, args)
  return {'OK', whole(cell_append(keys, args[3]))}
end)
