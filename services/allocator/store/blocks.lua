-- Blocks. States: 1 active, 2 suspended (no new leases, for a time), 3 retiring (no new leases ever, it
-- drains), 4 retired (it is empty). Invariant: a change of state moves the block among its pool's heads
-- and counts, and touches none of its numbers.

local BLOCK = 10000

-- As the block stands, state included.
local function block_wire(c, block)
  return redis.call('HGET', block.key, 'record') .. wire_int(5, block.state)
end

-- Its part of a StateRecord.
local function block_record(c, block)
  return wire_bytes(4, wire_bytes(1, block_wire(c, block))
    .. wire_int(2, tonumber(redis.call('HGET', block.pool.blocks, block.id) or '0'))
    .. wire_int(3, tonumber(redis.call('HGET', block.key, 'epoch') or '0')))
end

local function count_fresh(c, block, numbers)
  for _, scope in ipairs(block.scopes) do
    count(block.pool, 'fresh:' .. scope, numbers)
  end
end

-- Whoever knows the pool's blocks must learn them anew.
local function blocks_changed(c, pool)
  pool.gen = whole(draw(c))
  redis.call('HSET', pool.key, 'gen', pool.gen)
end

local function block_place(c, digits, path, area, state)
  redis.call('HSET', c.base .. 'block:' .. digits, 'pool', path, 'area', area, 'state', state)
  redis.call('ZADD', c.base .. 'listed:' .. path, 0, digits)
end

local function block_move(c, block, state)
  local idle = BLOCK - tonumber(redis.call('HGET', block.key, 'busy') or '0')
  count(block.pool, BY_BLOCK[block.state], -idle)
  count(block.pool, BY_BLOCK[state], idle)
  if (block.state == 1) ~= (state == 1) then
    local fresh = BLOCK - tonumber(redis.call('HGET', block.pool.blocks, block.id))
    count_fresh(c, block, state == 1 and fresh or -fresh)
  end
  block.state = state
  redis.call('HSET', block.key, 'state', state)
  redis.call(state == 3 and 'SADD' or 'SREM', c.base .. 'retiring', block.id)
  block_head(c, block, 'rest')
  block_head(c, block, 'open')
  blocks_changed(c, block.pool)
end

-- args: block, path, area ('': none), Block, tenant, partition of its event, of its record.
-- → sequence to wait for, Block as it stands
writes('register_block', function(keys, args)
  local c = begin(keys)
  local digits, path, area, record = args[3], args[4], args[5], args[6]
  local pool = pool_load(c, path)
  if not pool then
    return {'POOL_NOT_FOUND'}
  end
  local block = block_load(c, digits)
  if block then
    return {'OK', pending(keys, redis.call('HGET', block.key, 'sq')), block_wire(c, block)}
  end
  block_place(c, digits, path, area, 1)
  c.blocks[digits] = nil
  block = block_load(c, digits)
  local version = draw(c)
  redis.call('HSET', block.key, 'record', record, 'version', whole(version))
  redis.call('HSET', pool.blocks, digits, 0)
  count(pool, 'total', BLOCK)
  count_fresh(c, block, BLOCK)
  blocks_changed(c, pool)
  tell(c, tonumber(args[8]), digits, 'BlockRegistered',
    wire_bytes(1, block_wire(c, block)) .. wire_bytes(2, args[7]), version)
  keep(c, tonumber(args[9]), 'block/' .. digits, block_record(c, block), version)
  local sequence = commit(c)
  redis.call('HSET', block.key, 'sq', sequence)
  return {'OK', sequence, block_wire(c, block)}
end)

-- args: block. → Block
reads('get_block', function(keys, args)
  local c = begin(keys)
  local block = block_load(c, args[3])
  if not block then
    return {'BLOCK_NOT_FOUND'}
  end
  return {'OK', block_wire(c, block)}
end)

-- Moves the block to `state` and tells. → sequence
local function block_change(c, block, state, reason, event, record)
  block_move(c, block, state)
  local version = draw(c)
  redis.call('HSET', block.key, 'version', whole(version))
  tell(c, event, block.id, 'BlockChanged', wire_bytes(1, block_wire(c, block))
    .. wire_bytes(2, reason), version)
  keep(c, record, 'block/' .. block.id, block_record(c, block), version)
  local sequence = commit(c)
  redis.call('HSET', block.key, 'sq', sequence)
  return sequence
end

local function empty(block)
  return tonumber(redis.call('HGET', block.key, 'used') or '0') == 0
end

-- From which states a state may be asked for.
local FROM = {{2}, {1}, {1, 2}}

-- args: block, state wanted (1 resume, 2 suspend, 3 retire), reason, partition of its event, of its
-- record. → sequence to wait for, Block
writes('change_block', function(keys, args)
  local c = begin(keys)
  local block = block_load(c, args[3])
  if not block then
    return {'BLOCK_NOT_FOUND'}
  end
  local wanted = tonumber(args[4])
  if block.state == wanted or wanted == 3 and block.state == 4 then
    return {'OK', pending(keys, redis.call('HGET', block.key, 'sq')), block_wire(c, block)}
  end
  for _, state in ipairs(FROM[wanted]) do
    if state == block.state then
      wanted = wanted == 3 and empty(block) and 4 or wanted
      local sequence = block_change(c, block, wanted, args[5], tonumber(args[6]), tonumber(args[7]))
      return {'OK', sequence, block_wire(c, block)}
    end
  end
  return {'BLOCK_STATE', block.state}
end)

-- → blocks that drain and are empty
reads('drained', function(keys, args)
  local c, found = begin(keys), {}
  for _, digits in ipairs(redis.call('SMEMBERS', c.base .. 'retiring')) do
    if empty(block_load(c, digits)) then
      found[#found + 1] = digits
    end
  end
  return {'OK', unpack(found)}
end)

-- args: block, partition of its event, of its record. → 1 if it is retired now. A late binding may have
-- come since it was found empty; one that comes later yet stands on a retired block till its end.
writes('retired', function(keys, args)
  local c = begin(keys)
  local block = block_load(c, args[3])
  if not block or block.state ~= 3 or not empty(block) then
    return {'OK', 0}
  end
  block_change(c, block, 4, '', tonumber(args[4]), tonumber(args[5]))
  return {'OK', 1}
end)
