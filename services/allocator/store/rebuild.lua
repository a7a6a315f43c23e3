-- Restores what `allocator.state.v1` says, and repairs it. Invariant: a version never goes down, so
-- restoring the same records in any order gives the same store.

local function newer(key, field, version)
  return tonumber(version) > tonumber(redis.call('HGET', key, field) or '0')
end

-- args: path, version, policy, cooling, pair cooling, Pool.
reads('restore_pool', function(keys, args)
  local c, path = begin(keys), args[3]
  local key = c.base .. 'pool:' .. path
  if newer(key, 'version', args[4]) then
    redis.call('HSET', key, 'version', args[4], 'policy', args[5], 'cooling', args[6],
      'pair', args[7], 'record', args[8], 'gen', whole(draw(c)))
    redis.call('ZADD', c.base .. 'pools', 0, path)
    commit(c)
  end
  return {'OK'}
end)

-- args: block, version, path, cursor, lease epoch, area, state, Block. Pools come first.
reads('restore_block', function(keys, args)
  local c = begin(keys)
  local digits = args[3]
  local pool = pool_load(c, args[5])
  if not pool then
    return {'POOL_NOT_FOUND'}
  end
  local key = c.base .. 'block:' .. digits
  if newer(key, 'version', args[4]) then
    local block = block_load(c, digits)
    if not block then
      block_place(c, digits, args[5], args[8], 1)
      redis.call('HSET', pool.blocks, digits, 0)
      c.blocks[digits] = nil
      block = block_load(c, digits)
      count(pool, 'total', BLOCK)
      count_fresh(c, block, BLOCK)
    end
    local walked = tonumber(args[6]) - tonumber(redis.call('HGET', pool.blocks, digits))
    if block.state == 1 then
      count_fresh(c, block, -walked)
    end
    redis.call('HSET', pool.blocks, digits, args[6])
    redis.call('HSET', key, 'version', args[4], 'epoch', args[7], 'record', args[10])
    block_move(c, block, tonumber(args[9]))
  end
  commit(c)
  return {'OK'}
end)

-- args: number, version, kind, record ('' for its tombstone). Blocks come first.
reads('restore_mark', function(keys, args)
  return with_number(keys, args, function(c, n)
    local kind, record = args[5], args[6]
    if newer(n.key, MARKS[kind].version, args[4]) and (record ~= '' or n.touched) then
      mark_set(c, n, kind, record, math.max(n.version, tonumber(args[4])))
      redis.call('HSET', n.key, MARKS[kind].version, args[4])
    end
    commit(c)
    return {'OK'}
  end)
end)

-- args: number, version, import, epoch, deadline, partition of the record. Its parties are not known any
-- more: binding refuses them where they are on the number. Blocks come first, routes after.
reads('restore_import', function(keys, args)
  return with_number(keys, args, function(c, n)
    local id, epoch = args[5], args[6]
    if redis.call('HEXISTS', n.key, 'i/' .. id) == 0 then
      n.leases = n.leases + 1
      number_save(c, n, math.max(n.version, tonumber(args[4])), 'e/' .. epoch, args[7] .. ':')
      import_keep(n, id, epoch, args[4], args[7], args[8], '0')
      redis.call('ZADD', c.base .. 'leases', args[7], n.id .. '/' .. epoch)
    end
    commit(c)
    return {'OK'}
  end)
end)

-- args: path, numbers below a cursor. Those that nobody touched since were leased once and may be in
-- a binding's hands: an exclusive one cools, a shared one is free for whoever binding accepts.
reads('restore_walked', function(keys, args)
  local c, found = begin(keys), 0
  for at = 4, #args do
    local n = number_load(c, block_of(c, args[at]), args[at])
    if not n.touched then
      n.till = n.pool.shared and 0 or c.now + n.pool.cooling
      number_save(c, n)
      found = found + 1
    end
  end
  commit(c)
  return {'OK', found}
end)

-- The version and value of what stands, and where a later version is noted.
local function current(c, kind, id)
  if kind == 'pool' then
    local key = c.base .. 'pool:' .. id
    local f = redis.call('HMGET', key, 'version', 'record')
    return f[1], f[2] and wire_bytes(3, f[2]), key, 'version'
  elseif kind == 'block' then
    local block = block_load(c, id)
    return block and redis.call('HGET', block.key, 'version'), block and block_record(c, block),
      c.base .. 'block:' .. id, 'version'
  elseif kind == 'import' then
    local number, import = string.match(id, '^(%d+)/(.*)$')
    local entry = number and redis.call('HGET', c.base .. 'number:' .. number, 'i/' .. import)
    local f = entry and unpack_entry(entry, 4)
    return f and f[2], f and import_wire(number, import, f[1], f[3])
  end
  local mark, key = MARKS[kind], c.base .. 'number:' .. id
  local f = redis.call('HMGET', key, mark.version, kind)
  return f[1], f[2] and wire_bytes(mark.field, f[2]), key, mark.version
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
    if version and field then
      redis.call('HSET', key, field, whole(stands))
    end
  end
  keep(c, tonumber(args[6]), args[9], value, stands)
  commit(c)
  return {'OK', 1}
end)
