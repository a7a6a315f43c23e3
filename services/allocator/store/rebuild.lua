-- Restores what `allocator.state.v1` says, and repairs it. Invariant: a version never goes down, so
-- restoring the same records in any order gives the same store.

local function newer(key, field, version)
  return tonumber(version) > tonumber(redis.call('HGET', key, field) or '0')
end

-- args: path, version, policy, cooling, Pool.
reads('restore_pool', function(keys, args)
  local key = begin(keys).base .. 'pool:' .. args[3]
  if newer(key, 'version', args[4]) then
    redis.call('HSET', key, 'version', args[4], 'policy', args[5], 'cooling', args[6],
      'record', args[7])
  end
  return {'OK'}
end)

-- args: block, version, path, cursor, lease epoch, Block. Pools come first.
reads('restore_block', function(keys, args)
  local c = begin(keys)
  local key = c.base .. 'block:' .. args[3]
  local pool = pool_load(c, args[5])
  if not pool then
    return {'POOL_NOT_FOUND'}
  end
  if newer(key, 'version', args[4]) then
    local cursor = redis.call('HGET', pool.blocks, args[3])
    if not cursor then
      count(pool, 'total', 10000)
    end
    count(pool, 'walked', tonumber(args[6]) - tonumber(cursor or '0'))
    redis.call('HSET', pool.blocks, args[3], args[6])
    redis.call('HSET', key, 'version', args[4], 'pool', args[5], 'epoch', args[7],
      'record', args[8])
  end
  commit(c)
  return {'OK'}
end)

-- args: number, version, LockRecord ('' for its tombstone). Blocks come first.
reads('restore_lock', function(keys, args)
  local c = begin(keys)
  local pool = pool_of(c, args[3])
  if not pool then
    return {'NUMBER_NOT_FOUND'}
  end
  local n = number_load(c, pool, args[3])
  if newer(n.key, 'lv', args[4]) then
    n.lock = args[5] ~= '' and args[5]
    if n.lock or n.touched then
      number_save(c, n, math.max(n.version, tonumber(args[4])))
      redis.call('HSET', n.key, 'lv', args[4])
      redis.call('HDEL', n.key, 'lock')
      if n.lock then
        redis.call('HSET', n.key, 'lock', n.lock)
      end
    end
  end
  commit(c)
  return {'OK'}
end)

-- args: path, numbers below a cursor. Those that nobody touched since were leased once and may be in
-- a binding's hands: an exclusive one cools, a shared one is free for whoever binding accepts.
reads('restore_walked', function(keys, args)
  local c = begin(keys)
  local pool, found = pool_load(c, args[3]), 0
  for at = 4, #args do
    local n = number_load(c, pool, args[at])
    if not n.touched then
      n.till = pool.shared and 0 or c.now + pool.cooling
      number_save(c, n)
      found = found + 1
    end
  end
  commit(c)
  return {'OK', found}
end)

local function current(c, kind, id)
  if kind == 'pool' then
    local f = redis.call('HMGET', c.base .. 'pool:' .. id, 'version', 'record')
    return f[1], f[2] and wire_bytes(3, f[2]), c.base .. 'pool:' .. id, 'version'
  elseif kind == 'block' then
    local key = c.base .. 'block:' .. id
    local f = redis.call('HMGET', key, 'version', 'record', 'pool', 'epoch')
    return f[1], f[2] and wire_bytes(4, wire_bytes(1, f[2])
      .. wire_int(2, tonumber(redis.call('HGET', c.base .. 'blocks:' .. f[3], id) or '0'))
      .. wire_int(3, tonumber(f[4] or '0'))), key, 'version'
  end
  local f = redis.call('HMGET', c.base .. 'number:' .. id, 'lv', 'lock')
  return f[1], f[2] and wire_bytes(5, f[2]), c.base .. 'number:' .. id, 'lv'
end

-- args: kind, id, version of the last record of that key on the topic, its partition, its value, '1'
-- to overrule one that says something else of the version that stands here (else: CONTRADICTED), its
-- key.
-- Publishes what stands here again unless that is the record. A record of something that the store never had (its
-- creation was lost with the store, and its caller told so) gets a tombstone.
writes('repair', function(keys, args)
  local c = begin(keys)
  local version, value, key, field = current(c, args[3], args[4])
  local stands, seen = tonumber(version or '0'), tonumber(args[5])
  if stands == seen then
    if args[7] == (value and wire_int(1, stands) .. value or '') then
      return {'OK', 0}
    elseif args[8] ~= '1' then
      return {'CONTRADICTED'}
    end
  end
  if seen >= stands then
    stands = draw(c)
    if version then
      redis.call('HSET', key, field, whole(stands))
    end
  end
  keep(c, tonumber(args[6]), args[9], value, stands)
  commit(c)
  return {'OK', 1}
end)
