-- Lists, a page at a time. Invariant: a page costs what it shows: numbers are looked through a thousand
-- at most, whether or not they are shown.

local PAGE = 1000

-- Members behind `after` in a set ordered by name.
local function behind(key, after, top, limit)
  return redis.call('ZRANGEBYLEX', key, '(' .. after, top, 'LIMIT', 0, limit)
end

-- args: tenant, last pool of the page before or '', how many. → Pools
reads('list_pools', function(keys, args)
  local c, found = begin(keys), {}
  local mine = args[3] .. '/'
  for _, path in ipairs(behind(c.base .. 'pools', mine .. args[4], '(' .. args[3] .. '0', args[5])) do
    found[#found + 1] = redis.call('HGET', c.base .. 'pool:' .. path, 'record')
  end
  return {'OK', unpack(found)}
end)

-- args: last pool of the page before or '', how many. → paths of pools
reads('pool_paths', function(keys, args)
  local c = begin(keys)
  return {'OK', unpack(behind(c.base .. 'pools', args[3], '+', args[4]))}
end)

-- args: path, last block of the page before or '', how many. → Blocks
reads('list_blocks', function(keys, args)
  local c, found = begin(keys), {}
  if not pool_load(c, args[3]) then
    return {'POOL_NOT_FOUND'}
  end
  for _, digits in ipairs(behind(c.base .. 'listed:' .. args[3], args[4], '+', args[5])) do
    found[#found + 1] = block_wire(c, block_load(c, digits))
  end
  return {'OK', unpack(found)}
end)

-- args: path, last number looked at or '', state or '', how many. → the last number looked at ('': there
-- are no more), then six of each number: itself, state, pairs, end of cooling, version, history
reads('list_numbers', function(keys, args)
  local c, found, looked = begin(keys), {}, 0
  local limit = tonumber(args[6])
  local pool = pool_load(c, args[3])
  if not pool then
    return {'POOL_NOT_FOUND'}
  end
  local digits, serial = string.sub(args[4], 1, 11), tonumber(string.sub(args[4], 12)) or -1
  local block = digits ~= '' and block_load(c, digits)
  while true do
    if not block or serial >= 9999 then
      local following = behind(c.base .. 'listed:' .. args[3], digits, '+', 1)[1]
      if not following then
        return {'OK', '', unpack(found)}
      end
      digits, serial, block = following, -1, block_load(c, following)
    end
    serial, looked = serial + 1, looked + 1
    local id = digits .. string.format('%04d', serial)
    local n = number_load(c, block, id)
    if n.touched and (args[5] == '' or number_state(c, n) == args[5]) then
      found[#found + 1] = id
      for _, part in ipairs({select(2, number_answer(c, n))}) do
        found[#found + 1] = part
      end
    end
    if #found >= limit * 6 or looked >= PAGE then
      return {'OK', id, unpack(found)}
    end
  end
end)
