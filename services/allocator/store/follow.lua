-- Folds `binding.routes.v1`: per binding `b/<id>` = `<version>:<A or R>:<end of rest>:<tags>` in its
-- number's hash. Invariant: a binding's newest version decides; replaying any prefix, or the same
-- records twice, leaves the numbers as they were. Positions move in the same step.

local function confirm(c, n, change)
  local field = 'e/' .. change.epoch
  if change.epoch ~= '0' and redis.call('HDEL', n.key, field) == 1 then
    n.leases = n.leases - 1
    redis.call('ZREM', c.base .. 'leases', n.id .. '/' .. change.epoch)
    import_over(c, n, change.epoch)
  end
end

local function apply_route(c, n, change)
  local field = 'b/' .. change.binding
  local packed = whole(change.version) .. ':' .. change.state .. ':' .. whole(change.till) .. ':'
    .. change.tags
  local entry = redis.call('HGET', n.key, field)
  local was = entry and unpack_entry(entry, 3)
  if was and tonumber(was[1]) >= change.version then
    return tonumber(was[1]) > change.version or entry == packed
  end
  local was_active = was and was[2] == 'A'
  confirm(c, n, change)
  redis.call('HSET', n.key, field, packed)
  local tags = n.pool.tagged and split_tags(change.tags) or {}
  if change.state == 'A' then
    n.pairs = n.pairs + (was_active and 0 or 1)
    n.till = 0 -- a number that went to cooling with its lease is taken back
    for _, tag in ipairs(tags) do
      tag_hold(c, tag, n.id)
    end
  else
    n.pairs = n.pairs - (was_active and 1 or 0)
    n.till = math.max(n.till, n.pool.shared and 0 or change.till)
    for _, tag in ipairs(tags) do
      tag_rest(c, tag, n.id, parties_till(n.pool, {'', 'R', change.till}))
    end
  end
  number_save(c, n)
  return true
end

-- The tombstone follows the end of the rest, so what it deletes is over, whether or not the RELEASED
-- before it was seen (compaction may have dropped it).
local function forget_route(c, n, change)
  local field = 'b/' .. change.binding
  local entry = redis.call('HGET', n.key, field)
  if not entry then
    return
  end
  local was, tags = unpack_entry(entry, 3)
  redis.call('HDEL', n.key, field)
  n.pairs = n.pairs - (was[2] == 'A' and 1 or 0)
  if n.pool.tagged then
    for _, tag in ipairs(split_tags(tags)) do
      if was[2] == 'A' then
        tag_rest(c, tag, n.id, 0)
      else
        tag_forget(c, tag, n.id, parties_till(n.pool, was))
      end
    end
  end
  number_save(c, n)
end

-- args: how many partitions, each as field, from, to; then changes, each as place of its partition,
-- offset, state, number, binding, version, epoch, end of rest, tags.
-- → OK; GAP where the store stands before a `from`; CONTRADICTED and the places (from 0) of changes
-- that say something else about a version than what is known: then no position moves.
reads('follow', function(keys, args)
  local c = begin(keys)
  local positions = c.base .. 'positions'
  local covered, moves, wrong, at = {}, {}, {'CONTRADICTED'}, 4
  for place = 1, tonumber(args[3]) do
    covered[place] = tonumber(redis.call('HGET', positions, args[at]) or '0')
    if covered[place] < tonumber(args[at + 1]) then
      return {'GAP'}
    end
    if tonumber(args[at + 2]) > covered[place] then
      moves[#moves + 1] = args[at]
      moves[#moves + 1] = args[at + 2]
    end
    at = at + 3
  end
  for first = at, #args, 9 do
    if tonumber(args[first + 1]) >= covered[tonumber(args[first])] then
      local block = block_of(c, args[first + 3])
      if block then -- else another cell's number
        local n = number_load(c, block, args[first + 3])
        local change = {state = args[first + 2], binding = args[first + 4],
          version = tonumber(args[first + 5]), epoch = args[first + 6],
          till = tonumber(args[first + 7]), tags = args[first + 8]}
        if change.state == 'F' then
          forget_route(c, n, change)
        elseif not apply_route(c, n, change) then
          wrong[#wrong + 1] = (first - at) / 9
        end
      end
    end
  end
  if #wrong > 1 then
    commit(c)
    return wrong
  end
  if #moves > 0 then
    redis.call('HSET', positions, unpack(moves))
  end
  commit(c)
  return {'OK'}
end)
