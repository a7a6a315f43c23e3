-- Pools and blocks. Invariant: what is created stays as it is; a repeat answers what stands, with the
-- newest sequence, so that the caller waits for the acknowledgement of the first time too.

-- args: path, policy, cooling, Pool, partition of its event, of its record. → Pool as it stands
writes('create_pool', function(keys, args)
  local c = begin(keys)
  local path, record = args[3], args[6]
  local key = c.base .. 'pool:' .. path
  local stands = redis.call('HGET', key, 'record')
  if stands then
    return {'OK', redis.call('HGET', keys[1], 'seq'), stands}
  end
  local version = draw(c)
  redis.call('HSET', key, 'policy', args[4], 'cooling', args[5], 'record', record,
    'version', whole(version))
  tell(c, tonumber(args[7]), path, 'PoolCreated', wire_bytes(1, record), version)
  keep(c, tonumber(args[8]), 'pool/' .. path .. pool_suffix(c), wire_bytes(3, record), version)
  return {'OK', commit(c), record}
end)

-- args: block, path, Block, tenant, partition of its event, of its record. → Block as it stands
writes('register_block', function(keys, args)
  local c = begin(keys)
  local block, path, record = args[3], args[4], args[5]
  local pool = pool_load(c, path)
  if not pool then
    return {'POOL_NOT_FOUND'}
  end
  local key = c.base .. 'block:' .. block
  local stands = redis.call('HGET', key, 'record')
  if stands then
    return {'OK', redis.call('HGET', keys[1], 'seq'), stands}
  end
  local version = draw(c)
  redis.call('HSET', key, 'pool', path, 'record', record, 'version', whole(version))
  redis.call('HSET', pool.blocks, block, 0)
  count(pool, 'total', 10000)
  tell(c, tonumber(args[7]), block, 'BlockRegistered',
    wire_bytes(1, record) .. wire_bytes(2, args[6]), version)
  keep(c, tonumber(args[8]), 'block/' .. block, wire_bytes(4, wire_bytes(1, record)), version)
  return {'OK', commit(c), record}
end)

-- args: path. → Pool, and a list block, cursor, block, cursor …
reads('get_pool', function(keys, args)
  local c = begin(keys)
  local pool = pool_load(c, args[3])
  if not pool then
    return {'POOL_NOT_FOUND'}
  end
  return {'OK', redis.call('HGET', pool.key, 'record'), redis.call('HGETALL', pool.blocks)}
end)

-- args: path. → total, leased, bound, cooling, locked, pairs
reads('statistics', function(keys, args)
  local c = begin(keys)
  local pool = pool_load(c, args[3])
  if not pool then
    return {'POOL_NOT_FOUND'}
  end
  local f = redis.call('HMGET', pool.key, 'total', 'leased', 'bound', 'locked', 'pairs')
  local cooling = pool.shared and 0
    or redis.call('ZCOUNT', pool.resting, '(' .. whole(c.now), '+inf')
  return {'OK', f[1] or '0', f[2] or '0', f[3] or '0', cooling, f[4] or '0', f[5] or '0'}
end)

-- args: number. → pool, state, pairs, end of cooling, version
reads('get_number', function(keys, args)
  local c = begin(keys)
  local pool = pool_of(c, args[3])
  if not pool then
    return {'NUMBER_NOT_FOUND'}
  end
  return {'OK', number_answer(c, number_load(c, pool, args[3]))}
end)

-- args: number, reason, LockRecord, partition of its event, of its record.
writes('lock', function(keys, args)
  local c = begin(keys)
  local pool = pool_of(c, args[3])
  if not pool then
    return {'NUMBER_NOT_FOUND'}
  end
  local n = number_load(c, pool, args[3])
  if not n.lock then
    n.lock = args[5]
    number_save(c, n)
    redis.call('HSET', n.key, 'lock', n.lock, 'lv', whole(n.version))
    number_tell(c, n, tonumber(args[6]), 3, args[4])
    keep(c, tonumber(args[7]), 'lock/' .. n.id, wire_bytes(5, n.lock), n.version)
  end
  return {'OK', commit(c), number_answer(c, n)}
end)

-- args: as lock, without LockRecord.
writes('unlock', function(keys, args)
  local c = begin(keys)
  local pool = pool_of(c, args[3])
  if not pool then
    return {'NUMBER_NOT_FOUND'}
  end
  local n = number_load(c, pool, args[3])
  if n.lock then
    n.lock = false
    number_save(c, n)
    redis.call('HDEL', n.key, 'lock')
    redis.call('HSET', n.key, 'lv', whole(n.version))
    number_tell(c, n, tonumber(args[5]), 4, args[4])
    keep(c, tonumber(args[6]), 'lock/' .. n.id, nil, n.version)
  end
  return {'OK', commit(c), number_answer(c, n)}
end)
