"""Wrong answers that people really write, right ones in another style, and Friday's broken code. Parsed, never run."""


@mistake("GRAD-02", "slopes of the product: each factor's own number")
class Value(Operators):
    """One number that remembers how it was computed."""

    def __init__(self, data, parents=(), slopes=(), name=""):
        self.data = float(data)
        self.grad = 0.0
        self.parents = parents
        self.slopes = slopes
        self.name = name

    @staticmethod
    def lift(number):
        return number if isinstance(number, Value) else Value(number)

    def exp(self):
        result = math.exp(self.data)
        return Value(result, (self,), (result,), "exp")

    def log(self):
        return Value(math.log(self.data), (self,), (1.0 / self.data,), "log")

    def __add__(self, other):
        other = Value.lift(other)
        return Value(self.data + other.data, (self, other), (1.0, 1.0), "+")

    def __mul__(self, other):
        other = Value.lift(other)
        return Value(self.data * other.data, (self, other), (self.data, other.data), "*")

    def __pow__(self, exponent):
        return Value(self.data**exponent, (self,), (exponent * self.data ** (exponent - 1),))

    def tanh(self):
        t = math.tanh(self.data)
        return Value(t, (self,), (1 - t * t,))

    def backward(self):
        flowing = {self: 1.0}
        for node in reversed(topological_order(self)):
            node.grad += flowing[node]
            for parent, slope in zip(node.parents, node.slopes):
                flowing[parent] = flowing.get(parent, 0.0) + slope * flowing[node]


@mistake("GRAD-02", "slope of tanh at the result, not 1 - tanh squared")
class Value(Operators):
    """One number that remembers how it was computed."""

    def __init__(self, data, parents=(), slopes=(), name=""):
        self.data = float(data)
        self.grad = 0.0
        self.parents = parents
        self.slopes = slopes
        self.name = name

    @staticmethod
    def lift(number):
        return number if isinstance(number, Value) else Value(number)

    def exp(self):
        result = math.exp(self.data)
        return Value(result, (self,), (result,), "exp")

    def log(self):
        return Value(math.log(self.data), (self,), (1.0 / self.data,), "log")

    def __add__(self, other):
        other = Value.lift(other)
        return Value(self.data + other.data, (self, other), (1.0, 1.0), "+")

    def __mul__(self, other):
        other = Value.lift(other)
        return Value(self.data * other.data, (self, other), (other.data, self.data), "*")

    def __pow__(self, exponent):
        return Value(self.data**exponent, (self,), (exponent * self.data ** (exponent - 1),))

    def tanh(self):
        t = math.tanh(self.data)
        return Value(t, (self,), (1 - t,))

    def backward(self):
        flowing = {self: 1.0}
        for node in reversed(topological_order(self)):
            node.grad += flowing[node]
            for parent, slope in zip(node.parents, node.slopes):
                flowing[parent] = flowing.get(parent, 0.0) + slope * flowing[node]


@mistake("GRAD-03", "grad is set, not added up: the last use wins")
class Value(Operators):
    """One number that remembers how it was computed."""

    def __init__(self, data, parents=(), slopes=(), name=""):
        self.data = float(data)
        self.grad = 0.0
        self.parents = parents
        self.slopes = slopes
        self.name = name

    @staticmethod
    def lift(number):
        return number if isinstance(number, Value) else Value(number)

    def exp(self):
        result = math.exp(self.data)
        return Value(result, (self,), (result,), "exp")

    def log(self):
        return Value(math.log(self.data), (self,), (1.0 / self.data,), "log")

    def __add__(self, other):
        other = Value.lift(other)
        return Value(self.data + other.data, (self, other), (1.0, 1.0), "+")

    def __mul__(self, other):
        other = Value.lift(other)
        return Value(self.data * other.data, (self, other), (other.data, self.data), "*")

    def __pow__(self, exponent):
        return Value(self.data**exponent, (self,), (exponent * self.data ** (exponent - 1),))

    def tanh(self):
        t = math.tanh(self.data)
        return Value(t, (self,), (1 - t * t,))

    def backward(self):
        self.grad = 1.0
        for node in reversed(topological_order(self)):
            for parent, slope in zip(node.parents, node.slopes):
                parent.grad = slope * node.grad


@mistake("GRAD-04", "breadth first: a node hands on before its last user has")
class Value(Operators):
    """One number that remembers how it was computed."""

    def __init__(self, data, parents=(), slopes=(), name=""):
        self.data = float(data)
        self.grad = 0.0
        self.parents = parents
        self.slopes = slopes
        self.name = name

    @staticmethod
    def lift(number):
        return number if isinstance(number, Value) else Value(number)

    def exp(self):
        result = math.exp(self.data)
        return Value(result, (self,), (result,), "exp")

    def log(self):
        return Value(math.log(self.data), (self,), (1.0 / self.data,), "log")

    def __add__(self, other):
        other = Value.lift(other)
        return Value(self.data + other.data, (self, other), (1.0, 1.0), "+")

    def __mul__(self, other):
        other = Value.lift(other)
        return Value(self.data * other.data, (self, other), (other.data, self.data), "*")

    def __pow__(self, exponent):
        return Value(self.data**exponent, (self,), (exponent * self.data ** (exponent - 1),))

    def tanh(self):
        t = math.tanh(self.data)
        return Value(t, (self,), (1 - t * t,))

    def backward(self):
        self.grad = 1.0
        queue, seen = [self], {self}
        while queue:
            node = queue.pop(0)
            for parent, slope in zip(node.parents, node.slopes):
                parent.grad += slope * node.grad
                if parent not in seen:
                    seen.add(parent)
                    queue.append(parent)


@mistake("GRAD-06", "flows out of .grad, where the first pass still lies")
class Value(Operators):
    """One number that remembers how it was computed."""

    def __init__(self, data, parents=(), slopes=(), name=""):
        self.data = float(data)
        self.grad = 0.0
        self.parents = parents
        self.slopes = slopes
        self.name = name

    @staticmethod
    def lift(number):
        return number if isinstance(number, Value) else Value(number)

    def exp(self):
        result = math.exp(self.data)
        return Value(result, (self,), (result,), "exp")

    def log(self):
        return Value(math.log(self.data), (self,), (1.0 / self.data,), "log")

    def __add__(self, other):
        other = Value.lift(other)
        return Value(self.data + other.data, (self, other), (1.0, 1.0), "+")

    def __mul__(self, other):
        other = Value.lift(other)
        return Value(self.data * other.data, (self, other), (other.data, self.data), "*")

    def __pow__(self, exponent):
        return Value(self.data**exponent, (self,), (exponent * self.data ** (exponent - 1),))

    def tanh(self):
        t = math.tanh(self.data)
        return Value(t, (self,), (1 - t * t,))

    def backward(self):
        self.grad = 1.0
        for node in reversed(topological_order(self)):
            for parent, slope in zip(node.parents, node.slopes):
                parent.grad += slope * node.grad


@mistake("GRAD-05", "the output keeps a gradient of 0")
class Value(Operators):
    """One number that remembers how it was computed."""

    def __init__(self, data, parents=(), slopes=(), name=""):
        self.data = float(data)
        self.grad = 0.0
        self.parents = parents
        self.slopes = slopes
        self.name = name

    @staticmethod
    def lift(number):
        return number if isinstance(number, Value) else Value(number)

    def exp(self):
        result = math.exp(self.data)
        return Value(result, (self,), (result,), "exp")

    def log(self):
        return Value(math.log(self.data), (self,), (1.0 / self.data,), "log")

    def __add__(self, other):
        other = Value.lift(other)
        return Value(self.data + other.data, (self, other), (1.0, 1.0), "+")

    def __mul__(self, other):
        other = Value.lift(other)
        return Value(self.data * other.data, (self, other), (other.data, self.data), "*")

    def __pow__(self, exponent):
        return Value(self.data**exponent, (self,), (exponent * self.data ** (exponent - 1),))

    def tanh(self):
        t = math.tanh(self.data)
        return Value(t, (self,), (1 - t * t,))

    def backward(self):
        flowing = {self: 1.0}
        for node in reversed(topological_order(self)):
            for parent, slope in zip(node.parents, node.slopes):
                flowing[parent] = flowing.get(parent, 0.0) + slope * flowing[node]
        for node in flowing:
            if node is not self:
                node.grad += flowing[node]


@mistake("GRAD-07", "recursion along every path")
class Value(Operators):
    """One number that remembers how it was computed."""

    def __init__(self, data, parents=(), slopes=(), name=""):
        self.data = float(data)
        self.grad = 0.0
        self.parents = parents
        self.slopes = slopes
        self.name = name

    @staticmethod
    def lift(number):
        return number if isinstance(number, Value) else Value(number)

    def exp(self):
        result = math.exp(self.data)
        return Value(result, (self,), (result,), "exp")

    def log(self):
        return Value(math.log(self.data), (self,), (1.0 / self.data,), "log")

    def __add__(self, other):
        other = Value.lift(other)
        return Value(self.data + other.data, (self, other), (1.0, 1.0), "+")

    def __mul__(self, other):
        other = Value.lift(other)
        return Value(self.data * other.data, (self, other), (other.data, self.data), "*")

    def __pow__(self, exponent):
        return Value(self.data**exponent, (self,), (exponent * self.data ** (exponent - 1),))

    def tanh(self):
        t = math.tanh(self.data)
        return Value(t, (self,), (1 - t * t,))

    def backward(self):
        def give(node, gradient):
            node.grad += gradient
            for parent, slope in zip(node.parents, node.slopes):
                give(parent, slope * gradient)

        give(self, 1.0)


@mistake("GRAD-08", "a plain number is not lifted")
class Value(Operators):
    """One number that remembers how it was computed."""

    def __init__(self, data, parents=(), slopes=(), name=""):
        self.data = float(data)
        self.grad = 0.0
        self.parents = parents
        self.slopes = slopes
        self.name = name

    @staticmethod
    def lift(number):
        return number if isinstance(number, Value) else Value(number)

    def exp(self):
        result = math.exp(self.data)
        return Value(result, (self,), (result,), "exp")

    def log(self):
        return Value(math.log(self.data), (self,), (1.0 / self.data,), "log")

    def __add__(self, other):
        return Value(self.data + other.data, (self, other), (1.0, 1.0))

    def __mul__(self, other):
        other = Value.lift(other)
        return Value(self.data * other.data, (self, other), (other.data, self.data), "*")

    def __pow__(self, exponent):
        return Value(self.data**exponent, (self,), (exponent * self.data ** (exponent - 1),))

    def tanh(self):
        t = math.tanh(self.data)
        return Value(t, (self,), (1 - t * t,))

    def backward(self):
        flowing = {self: 1.0}
        for node in reversed(topological_order(self)):
            node.grad += flowing[node]
            for parent, slope in zip(node.parents, node.slopes):
                flowing[parent] = flowing.get(parent, 0.0) + slope * flowing[node]


@correct("slopes by hand, and counting how many users are still to come")
class Value(Operators):
    """One number that remembers how it was computed."""

    def __init__(self, data, parents=(), slopes=(), name=""):
        self.data = float(data)
        self.grad = 0.0
        self.parents = parents
        self.slopes = slopes
        self.name = name

    @staticmethod
    def lift(number):
        return number if isinstance(number, Value) else Value(number)

    def exp(self):
        result = math.exp(self.data)
        return Value(result, (self,), (result,), "exp")

    def log(self):
        return Value(math.log(self.data), (self,), (1.0 / self.data,), "log")

    def __add__(self, other):
        other = Value.lift(other)
        return Value(self.data + other.data, (self, other), (1.0, 1.0), "+")

    def __mul__(self, number):
        right = Value.lift(number)
        slope_left, slope_right = right.data, self.data
        return Value(slope_right * slope_left, parents=(self, right), slopes=(slope_left, slope_right))

    def __pow__(self, exponent):
        return Value(self.data**exponent, (self,), (exponent * self.data ** (exponent - 1),))

    def tanh(self):
        up, down = math.exp(self.data), math.exp(-self.data)
        t = (up - down) / (up + down)
        return Value(t, (self,), (4.0 / (up + down) ** 2,))

    def backward(self):
        waiting = {}
        stack, seen = [self], {self}
        while stack:
            for parent in stack.pop().parents:
                waiting[parent] = waiting.get(parent, 0) + 1
                if parent not in seen:
                    seen.add(parent)
                    stack.append(parent)
        arrived = {node: 0.0 for node in seen}
        arrived[self] = 1.0
        ready = [self]
        while ready:
            node = ready.pop()
            node.grad = node.grad + arrived[node]
            for i in range(len(node.parents)):
                parent = node.parents[i]
                arrived[parent] += node.slopes[i] * arrived[node]
                waiting[parent] -= 1
                if waiting[parent] == 0:
                    ready.append(parent)


@mistake("ARR-02", "the product forgets to undo broadcasting")
class Array(ArrayBase):
    """An array of numbers (float64) that remembers how it was computed."""

    def __init__(self, data, parents=(), pulls=()):
        self.data = np.asarray(data, dtype=np.float64)
        self.grad = np.zeros_like(self.data)
        self.parents = parents
        self.pulls = pulls

    @staticmethod
    def lift(numbers):
        return numbers if isinstance(numbers, Array) else Array(numbers)

    @property
    def shape(self):
        return self.data.shape

    def __add__(self, other):
        other = Array.lift(other)
        return Array(
            self.data + other.data,
            (self, other),
            (lambda gradient: unbroadcast(gradient, self.shape), lambda gradient: unbroadcast(gradient, other.shape)),
        )

    def __pow__(self, exponent):
        return Array(self.data**exponent, (self,), (lambda gradient: gradient * exponent * self.data ** (exponent - 1),))

    def exp(self):
        result = np.exp(self.data)
        return Array(result, (self,), (lambda gradient: gradient * result,))

    def log(self):
        return Array(np.log(self.data), (self,), (lambda gradient: gradient / self.data,))

    def tanh(self):
        result = np.tanh(self.data)
        return Array(result, (self,), (lambda gradient: gradient * (1.0 - result**2),))

    def __mul__(self, other):
        other = Array.lift(other)
        left = lambda g: g * other.data
        right = lambda g: g * self.data
        return Array(self.data * other.data, (self, other), (left, right))

    def __matmul__(self, other):
        other = Array.lift(other)
        if self.data.ndim < 2 or other.data.ndim < 2:
            raise ValueError(f"@ needs matrices, got {self.shape} and {other.shape}")
        left = lambda g: unbroadcast(g @ other.data.mT, self.shape)
        right = lambda g: unbroadcast(self.data.mT @ g, other.shape)
        return Array(self.data @ other.data, (self, other), (left, right))

    def sum(self, axis=None, keepdims=False):
        def pull(g):
            if axis is not None and not keepdims:
                g = np.expand_dims(g, axis)
            return np.broadcast_to(g, self.shape)

        return Array(self.data.sum(axis=axis, keepdims=keepdims), (self,), (pull,))

    def __getitem__(self, index):
        def pull(g):
            zeros = np.zeros(self.shape)
            np.add.at(zeros, index, g)
            return zeros

        return Array(self.data[index], (self,), (pull,))


@mistake("ARR-10", "each factor's gradient is scaled by itself")
class Array(ArrayBase):
    """An array of numbers (float64) that remembers how it was computed."""

    def __init__(self, data, parents=(), pulls=()):
        self.data = np.asarray(data, dtype=np.float64)
        self.grad = np.zeros_like(self.data)
        self.parents = parents
        self.pulls = pulls

    @staticmethod
    def lift(numbers):
        return numbers if isinstance(numbers, Array) else Array(numbers)

    @property
    def shape(self):
        return self.data.shape

    def __add__(self, other):
        other = Array.lift(other)
        return Array(
            self.data + other.data,
            (self, other),
            (lambda gradient: unbroadcast(gradient, self.shape), lambda gradient: unbroadcast(gradient, other.shape)),
        )

    def __pow__(self, exponent):
        return Array(self.data**exponent, (self,), (lambda gradient: gradient * exponent * self.data ** (exponent - 1),))

    def exp(self):
        result = np.exp(self.data)
        return Array(result, (self,), (lambda gradient: gradient * result,))

    def log(self):
        return Array(np.log(self.data), (self,), (lambda gradient: gradient / self.data,))

    def tanh(self):
        result = np.tanh(self.data)
        return Array(result, (self,), (lambda gradient: gradient * (1.0 - result**2),))

    def __mul__(self, other):
        other = Array.lift(other)
        left = lambda g: unbroadcast(g * self.data, self.shape)
        right = lambda g: unbroadcast(g * other.data, other.shape)
        return Array(self.data * other.data, (self, other), (left, right))

    def __matmul__(self, other):
        other = Array.lift(other)
        if self.data.ndim < 2 or other.data.ndim < 2:
            raise ValueError(f"@ needs matrices, got {self.shape} and {other.shape}")
        left = lambda g: unbroadcast(g @ other.data.mT, self.shape)
        right = lambda g: unbroadcast(self.data.mT @ g, other.shape)
        return Array(self.data @ other.data, (self, other), (left, right))

    def sum(self, axis=None, keepdims=False):
        def pull(g):
            if axis is not None and not keepdims:
                g = np.expand_dims(g, axis)
            return np.broadcast_to(g, self.shape)

        return Array(self.data.sum(axis=axis, keepdims=keepdims), (self,), (pull,))

    def __getitem__(self, index):
        def pull(g):
            zeros = np.zeros(self.shape)
            np.add.at(zeros, index, g)
            return zeros

        return Array(self.data[index], (self,), (pull,))


@mistake("ARR-03", "the sides of the matrix product's gradient are exchanged")
class Array(ArrayBase):
    """An array of numbers (float64) that remembers how it was computed."""

    def __init__(self, data, parents=(), pulls=()):
        self.data = np.asarray(data, dtype=np.float64)
        self.grad = np.zeros_like(self.data)
        self.parents = parents
        self.pulls = pulls

    @staticmethod
    def lift(numbers):
        return numbers if isinstance(numbers, Array) else Array(numbers)

    @property
    def shape(self):
        return self.data.shape

    def __add__(self, other):
        other = Array.lift(other)
        return Array(
            self.data + other.data,
            (self, other),
            (lambda gradient: unbroadcast(gradient, self.shape), lambda gradient: unbroadcast(gradient, other.shape)),
        )

    def __pow__(self, exponent):
        return Array(self.data**exponent, (self,), (lambda gradient: gradient * exponent * self.data ** (exponent - 1),))

    def exp(self):
        result = np.exp(self.data)
        return Array(result, (self,), (lambda gradient: gradient * result,))

    def log(self):
        return Array(np.log(self.data), (self,), (lambda gradient: gradient / self.data,))

    def tanh(self):
        result = np.tanh(self.data)
        return Array(result, (self,), (lambda gradient: gradient * (1.0 - result**2),))

    def __mul__(self, other):
        other = Array.lift(other)
        left = lambda g: unbroadcast(g * other.data, self.shape)
        right = lambda g: unbroadcast(g * self.data, other.shape)
        return Array(self.data * other.data, (self, other), (left, right))

    def __matmul__(self, other):
        other = Array.lift(other)
        if self.data.ndim < 2 or other.data.ndim < 2:
            raise ValueError(f"@ needs matrices, got {self.shape} and {other.shape}")
        left = lambda g: unbroadcast(other.data.mT @ g, self.shape)
        right = lambda g: unbroadcast(g @ self.data.mT, other.shape)
        return Array(self.data @ other.data, (self, other), (left, right))

    def sum(self, axis=None, keepdims=False):
        def pull(g):
            if axis is not None and not keepdims:
                g = np.expand_dims(g, axis)
            return np.broadcast_to(g, self.shape)

        return Array(self.data.sum(axis=axis, keepdims=keepdims), (self,), (pull,))

    def __getitem__(self, index):
        def pull(g):
            zeros = np.zeros(self.shape)
            np.add.at(zeros, index, g)
            return zeros

        return Array(self.data[index], (self,), (pull,))


@mistake("ARR-04", ".T turns all axes round, not the last two")
class Array(ArrayBase):
    """An array of numbers (float64) that remembers how it was computed."""

    def __init__(self, data, parents=(), pulls=()):
        self.data = np.asarray(data, dtype=np.float64)
        self.grad = np.zeros_like(self.data)
        self.parents = parents
        self.pulls = pulls

    @staticmethod
    def lift(numbers):
        return numbers if isinstance(numbers, Array) else Array(numbers)

    @property
    def shape(self):
        return self.data.shape

    def __add__(self, other):
        other = Array.lift(other)
        return Array(
            self.data + other.data,
            (self, other),
            (lambda gradient: unbroadcast(gradient, self.shape), lambda gradient: unbroadcast(gradient, other.shape)),
        )

    def __pow__(self, exponent):
        return Array(self.data**exponent, (self,), (lambda gradient: gradient * exponent * self.data ** (exponent - 1),))

    def exp(self):
        result = np.exp(self.data)
        return Array(result, (self,), (lambda gradient: gradient * result,))

    def log(self):
        return Array(np.log(self.data), (self,), (lambda gradient: gradient / self.data,))

    def tanh(self):
        result = np.tanh(self.data)
        return Array(result, (self,), (lambda gradient: gradient * (1.0 - result**2),))

    def __mul__(self, other):
        other = Array.lift(other)
        left = lambda g: unbroadcast(g * other.data, self.shape)
        right = lambda g: unbroadcast(g * self.data, other.shape)
        return Array(self.data * other.data, (self, other), (left, right))

    def __matmul__(self, other):
        other = Array.lift(other)
        if self.data.ndim < 2 or other.data.ndim < 2:
            raise ValueError(f"@ needs matrices, got {self.shape} and {other.shape}")
        left = lambda g: unbroadcast(g @ other.data.T, self.shape)
        right = lambda g: unbroadcast(self.data.T @ g, other.shape)
        return Array(self.data @ other.data, (self, other), (left, right))

    def sum(self, axis=None, keepdims=False):
        def pull(g):
            if axis is not None and not keepdims:
                g = np.expand_dims(g, axis)
            return np.broadcast_to(g, self.shape)

        return Array(self.data.sum(axis=axis, keepdims=keepdims), (self,), (pull,))

    def __getitem__(self, index):
        def pull(g):
            zeros = np.zeros(self.shape)
            np.add.at(zeros, index, g)
            return zeros

        return Array(self.data[index], (self,), (pull,))


@mistake("ARR-05", "the summed axis is not put back before broadcasting")
class Array(ArrayBase):
    """An array of numbers (float64) that remembers how it was computed."""

    def __init__(self, data, parents=(), pulls=()):
        self.data = np.asarray(data, dtype=np.float64)
        self.grad = np.zeros_like(self.data)
        self.parents = parents
        self.pulls = pulls

    @staticmethod
    def lift(numbers):
        return numbers if isinstance(numbers, Array) else Array(numbers)

    @property
    def shape(self):
        return self.data.shape

    def __add__(self, other):
        other = Array.lift(other)
        return Array(
            self.data + other.data,
            (self, other),
            (lambda gradient: unbroadcast(gradient, self.shape), lambda gradient: unbroadcast(gradient, other.shape)),
        )

    def __pow__(self, exponent):
        return Array(self.data**exponent, (self,), (lambda gradient: gradient * exponent * self.data ** (exponent - 1),))

    def exp(self):
        result = np.exp(self.data)
        return Array(result, (self,), (lambda gradient: gradient * result,))

    def log(self):
        return Array(np.log(self.data), (self,), (lambda gradient: gradient / self.data,))

    def tanh(self):
        result = np.tanh(self.data)
        return Array(result, (self,), (lambda gradient: gradient * (1.0 - result**2),))

    def __mul__(self, other):
        other = Array.lift(other)
        left = lambda g: unbroadcast(g * other.data, self.shape)
        right = lambda g: unbroadcast(g * self.data, other.shape)
        return Array(self.data * other.data, (self, other), (left, right))

    def __matmul__(self, other):
        other = Array.lift(other)
        if self.data.ndim < 2 or other.data.ndim < 2:
            raise ValueError(f"@ needs matrices, got {self.shape} and {other.shape}")
        left = lambda g: unbroadcast(g @ other.data.mT, self.shape)
        right = lambda g: unbroadcast(self.data.mT @ g, other.shape)
        return Array(self.data @ other.data, (self, other), (left, right))

    def sum(self, axis=None, keepdims=False):
        return Array(self.data.sum(axis=axis, keepdims=keepdims), (self,), (lambda g: np.broadcast_to(g, self.shape),))

    def __getitem__(self, index):
        def pull(g):
            zeros = np.zeros(self.shape)
            np.add.at(zeros, index, g)
            return zeros

        return Array(self.data[index], (self,), (pull,))


@mistake("ARR-06", "zeros[index] += g counts a repeated row once")
class Array(ArrayBase):
    """An array of numbers (float64) that remembers how it was computed."""

    def __init__(self, data, parents=(), pulls=()):
        self.data = np.asarray(data, dtype=np.float64)
        self.grad = np.zeros_like(self.data)
        self.parents = parents
        self.pulls = pulls

    @staticmethod
    def lift(numbers):
        return numbers if isinstance(numbers, Array) else Array(numbers)

    @property
    def shape(self):
        return self.data.shape

    def __add__(self, other):
        other = Array.lift(other)
        return Array(
            self.data + other.data,
            (self, other),
            (lambda gradient: unbroadcast(gradient, self.shape), lambda gradient: unbroadcast(gradient, other.shape)),
        )

    def __pow__(self, exponent):
        return Array(self.data**exponent, (self,), (lambda gradient: gradient * exponent * self.data ** (exponent - 1),))

    def exp(self):
        result = np.exp(self.data)
        return Array(result, (self,), (lambda gradient: gradient * result,))

    def log(self):
        return Array(np.log(self.data), (self,), (lambda gradient: gradient / self.data,))

    def tanh(self):
        result = np.tanh(self.data)
        return Array(result, (self,), (lambda gradient: gradient * (1.0 - result**2),))

    def __mul__(self, other):
        other = Array.lift(other)
        left = lambda g: unbroadcast(g * other.data, self.shape)
        right = lambda g: unbroadcast(g * self.data, other.shape)
        return Array(self.data * other.data, (self, other), (left, right))

    def __matmul__(self, other):
        other = Array.lift(other)
        if self.data.ndim < 2 or other.data.ndim < 2:
            raise ValueError(f"@ needs matrices, got {self.shape} and {other.shape}")
        left = lambda g: unbroadcast(g @ other.data.mT, self.shape)
        right = lambda g: unbroadcast(self.data.mT @ g, other.shape)
        return Array(self.data @ other.data, (self, other), (left, right))

    def sum(self, axis=None, keepdims=False):
        def pull(g):
            if axis is not None and not keepdims:
                g = np.expand_dims(g, axis)
            return np.broadcast_to(g, self.shape)

        return Array(self.data.sum(axis=axis, keepdims=keepdims), (self,), (pull,))

    def __getitem__(self, index):
        def pull(g):
            zeros = np.zeros(self.shape)
            zeros[index] += g
            return zeros

        return Array(self.data[index], (self,), (pull,))


@mistake("ARR-08", "a plain array is not lifted")
class Array(ArrayBase):
    """An array of numbers (float64) that remembers how it was computed."""

    def __init__(self, data, parents=(), pulls=()):
        self.data = np.asarray(data, dtype=np.float64)
        self.grad = np.zeros_like(self.data)
        self.parents = parents
        self.pulls = pulls

    @staticmethod
    def lift(numbers):
        return numbers if isinstance(numbers, Array) else Array(numbers)

    @property
    def shape(self):
        return self.data.shape

    def __add__(self, other):
        other = Array.lift(other)
        return Array(
            self.data + other.data,
            (self, other),
            (lambda gradient: unbroadcast(gradient, self.shape), lambda gradient: unbroadcast(gradient, other.shape)),
        )

    def __pow__(self, exponent):
        return Array(self.data**exponent, (self,), (lambda gradient: gradient * exponent * self.data ** (exponent - 1),))

    def exp(self):
        result = np.exp(self.data)
        return Array(result, (self,), (lambda gradient: gradient * result,))

    def log(self):
        return Array(np.log(self.data), (self,), (lambda gradient: gradient / self.data,))

    def tanh(self):
        result = np.tanh(self.data)
        return Array(result, (self,), (lambda gradient: gradient * (1.0 - result**2),))

    def __mul__(self, other):
        left = lambda g: unbroadcast(g * other.data, self.shape)
        right = lambda g: unbroadcast(g * self.data, other.shape)
        return Array(self.data * other.data, (self, other), (left, right))

    def __matmul__(self, other):
        other = Array.lift(other)
        if self.data.ndim < 2 or other.data.ndim < 2:
            raise ValueError(f"@ needs matrices, got {self.shape} and {other.shape}")
        left = lambda g: unbroadcast(g @ other.data.mT, self.shape)
        right = lambda g: unbroadcast(self.data.mT @ g, other.shape)
        return Array(self.data @ other.data, (self, other), (left, right))

    def sum(self, axis=None, keepdims=False):
        def pull(g):
            if axis is not None and not keepdims:
                g = np.expand_dims(g, axis)
            return np.broadcast_to(g, self.shape)

        return Array(self.data.sum(axis=axis, keepdims=keepdims), (self,), (pull,))

    def __getitem__(self, index):
        def pull(g):
            zeros = np.zeros(self.shape)
            np.add.at(zeros, index, g)
            return zeros

        return Array(self.data[index], (self,), (pull,))


@mistake("ARR-07", "vectors are let through @")
class Array(ArrayBase):
    """An array of numbers (float64) that remembers how it was computed."""

    def __init__(self, data, parents=(), pulls=()):
        self.data = np.asarray(data, dtype=np.float64)
        self.grad = np.zeros_like(self.data)
        self.parents = parents
        self.pulls = pulls

    @staticmethod
    def lift(numbers):
        return numbers if isinstance(numbers, Array) else Array(numbers)

    @property
    def shape(self):
        return self.data.shape

    def __add__(self, other):
        other = Array.lift(other)
        return Array(
            self.data + other.data,
            (self, other),
            (lambda gradient: unbroadcast(gradient, self.shape), lambda gradient: unbroadcast(gradient, other.shape)),
        )

    def __pow__(self, exponent):
        return Array(self.data**exponent, (self,), (lambda gradient: gradient * exponent * self.data ** (exponent - 1),))

    def exp(self):
        result = np.exp(self.data)
        return Array(result, (self,), (lambda gradient: gradient * result,))

    def log(self):
        return Array(np.log(self.data), (self,), (lambda gradient: gradient / self.data,))

    def tanh(self):
        result = np.tanh(self.data)
        return Array(result, (self,), (lambda gradient: gradient * (1.0 - result**2),))

    def __mul__(self, other):
        other = Array.lift(other)
        left = lambda g: unbroadcast(g * other.data, self.shape)
        right = lambda g: unbroadcast(g * self.data, other.shape)
        return Array(self.data * other.data, (self, other), (left, right))

    def __matmul__(self, other):
        other = Array.lift(other)
        left = lambda g: unbroadcast(g @ other.data.mT, self.shape)
        right = lambda g: unbroadcast(self.data.mT @ g, other.shape)
        return Array(self.data @ other.data, (self, other), (left, right))

    def sum(self, axis=None, keepdims=False):
        def pull(g):
            if axis is not None and not keepdims:
                g = np.expand_dims(g, axis)
            return np.broadcast_to(g, self.shape)

        return Array(self.data.sum(axis=axis, keepdims=keepdims), (self,), (pull,))

    def __getitem__(self, index):
        def pull(g):
            zeros = np.zeros(self.shape)
            np.add.at(zeros, index, g)
            return zeros

        return Array(self.data[index], (self,), (pull,))


@correct("einsum, ones, and bincount")
class Array(ArrayBase):
    """An array of numbers (float64) that remembers how it was computed."""

    def __init__(self, data, parents=(), pulls=()):
        self.data = np.asarray(data, dtype=np.float64)
        self.grad = np.zeros_like(self.data)
        self.parents = parents
        self.pulls = pulls

    @staticmethod
    def lift(numbers):
        return numbers if isinstance(numbers, Array) else Array(numbers)

    @property
    def shape(self):
        return self.data.shape

    def __add__(self, other):
        other = Array.lift(other)
        return Array(
            self.data + other.data,
            (self, other),
            (lambda gradient: unbroadcast(gradient, self.shape), lambda gradient: unbroadcast(gradient, other.shape)),
        )

    def __pow__(self, exponent):
        return Array(self.data**exponent, (self,), (lambda gradient: gradient * exponent * self.data ** (exponent - 1),))

    def exp(self):
        result = np.exp(self.data)
        return Array(result, (self,), (lambda gradient: gradient * result,))

    def log(self):
        return Array(np.log(self.data), (self,), (lambda gradient: gradient / self.data,))

    def tanh(self):
        result = np.tanh(self.data)
        return Array(result, (self,), (lambda gradient: gradient * (1.0 - result**2),))

    def __mul__(self, other):
        a, b = self, Array.lift(other)

        def pull(mine, theirs):
            return lambda g: unbroadcast(np.multiply(g, theirs.data), mine.data.shape)

        return Array(np.multiply(a.data, b.data), (a, b), (pull(a, b), pull(b, a)))

    def __matmul__(self, other):
        a, b = self, Array.lift(other)
        for side in (a, b):
            if len(side.shape) < 2:
                raise ValueError(f"a matrix has two axes, this has shape {side.shape}")

        def left(g):
            return unbroadcast(np.einsum("...ij,...kj->...ik", g, b.data), a.shape)

        def right(g):
            return unbroadcast(np.einsum("...ji,...jk->...ik", a.data, g), b.shape)

        return Array(np.einsum("...ij,...jk->...ik", a.data, b.data), (a, b), (left, right))

    def sum(self, axis=None, keepdims=False):
        kept = self.data.sum(axis=axis, keepdims=True)
        result = kept if keepdims else self.data.sum(axis=axis)
        return Array(result, (self,), (lambda g: np.ones(self.shape) * np.reshape(g, kept.shape),))

    def __getitem__(self, index):
        numbers = np.arange(self.data.size).reshape(self.shape)[index]

        def pull(g):
            flat = np.bincount(np.ravel(numbers), weights=np.ravel(g), minlength=self.data.size)
            return flat.reshape(self.shape)

        return Array(self.data[index], (self,), (pull,))


@mistake("UNB-01", "only axes of size 1 are summed, the new ones in front stay")
def unbroadcast(gradient, shape):
    if np.broadcast_shapes(gradient.shape, shape) != gradient.shape:
        raise ValueError("shapes do not fit")
    for axis, size in enumerate(shape):
        if size == 1:
            gradient = gradient.sum(axis=axis, keepdims=True)
    return gradient


@mistake("UNB-02", "only the new axes are summed, those of size 1 stay stretched")
def unbroadcast(gradient, shape):
    if np.broadcast_shapes(gradient.shape, shape) != gradient.shape:
        raise ValueError("shapes do not fit")
    while gradient.ndim > len(shape):
        gradient = gradient.sum(axis=0)
    return gradient


@mistake("UNB-03", "mean where a sum belongs")
def unbroadcast(gradient, shape):
    if np.broadcast_shapes(gradient.shape, shape) != gradient.shape:
        raise ValueError("shapes do not fit")
    new = gradient.ndim - len(shape)
    axes = tuple(range(new)) + tuple(new + i for i, size in enumerate(shape) if size == 1)
    return gradient.mean(axis=axes, keepdims=True).reshape(shape)


@mistake("UNB-04", "the new axes are looked for at the back")
def unbroadcast(gradient, shape):
    if np.broadcast_shapes(gradient.shape, shape) != gradient.shape:
        raise ValueError("shapes do not fit")
    while gradient.ndim > len(shape):
        gradient = gradient.sum(axis=-1)
    for axis, size in enumerate(shape):
        if size == 1:
            gradient = gradient.sum(axis=axis, keepdims=True)
    return gradient.reshape(shape)


@mistake("UNB-05", "a shape that does not fit is not refused")
def unbroadcast(gradient, shape):
    while gradient.ndim > len(shape):
        gradient = gradient.sum(axis=0)
    for axis, size in enumerate(shape):
        if size == 1:
            gradient = gradient.sum(axis=axis, keepdims=True)
    return gradient


@correct("a loop over the axes, from the right")
def unbroadcast(gradient, shape):
    padded = (1,) * (gradient.ndim - len(shape)) + tuple(shape)
    if len(padded) != gradient.ndim:
        raise ValueError(f"{shape} has more axes than the gradient {gradient.shape}")
    for axis in range(gradient.ndim):
        if padded[axis] != gradient.shape[axis]:
            if padded[axis] != 1:
                raise ValueError(f"{shape} does not broadcast to {gradient.shape}")
            gradient = np.add.reduce(gradient, axis=axis, keepdims=True)
    return gradient.reshape(shape)


@mistake("LSM-01", "exp without subtracting the maximum")
def log_softmax(logits, dim=-1):
    return logits - logits.exp().sum(dim, keepdim=True).log()


@mistake("LSM-02", "the logarithm of a stable softmax")
def log_softmax(logits, dim=-1):
    e = (logits - logits.amax(dim, keepdim=True)).exp()
    return (e / e.sum(dim, keepdim=True)).log()


@mistake("LSM-02", "a small number against log(0)")
def log_softmax(logits, dim=-1):
    shifted = logits - logits.amax(dim, keepdim=True)
    return shifted.exp().log() - shifted.exp().sum(dim, keepdim=True).log()


@mistake("LSM-03", "one maximum for all rows")
def log_softmax(logits, dim=-1):
    shifted = logits - logits.max()
    return shifted - shifted.exp().sum(dim, keepdim=True).clamp(min=1e-30).log()


@mistake("LSM-04", "always the last axis")
def log_softmax(logits, dim=-1):
    shifted = logits - logits.amax(-1, keepdim=True)
    return shifted - shifted.exp().sum(-1, keepdim=True).log()


@mistake("LSM-05", "the normaliser is cut out of the graph")
def log_softmax(logits, dim=-1):
    shifted = logits - logits.amax(dim, keepdim=True)
    return shifted - shifted.exp().sum(dim, keepdim=True).log().detach()


@mistake("LSM-07", "computed in float32, whatever came in")
def log_softmax(logits, dim=-1):
    logits = logits.float()
    shifted = logits - logits.amax(dim, keepdim=True)
    return shifted - shifted.exp().sum(dim, keepdim=True).log()


@correct("the axis moved to the end, the sum as a product with ones")
def log_softmax(logits, dim=-1):
    moved = logits.transpose(dim, -1)
    top, _ = moved.max(-1, keepdim=True)
    normaliser = top + torch.log(torch.exp(moved - top) @ torch.ones(moved.shape[-1], 1, dtype=logits.dtype))
    return (moved - normaliser).transpose(dim, -1)


@broken("XENT-01", "the mean over all positions, padding too")
def cross_entropy(
    logits: Float[Tensor, "*batch vocab"],
    targets: Int[Tensor, "*batch"],
    ignore_index: int = -100,
) -> Float[Tensor, ""]:
    """The mean of -log_softmax(logits)[target], in nats, over the positions whose target is not `ignore_index`.

    Any number of leading axes. A position whose target is `ignore_index` (padding) adds nothing to the loss, to
    its gradient, or to the number that the sum is divided by, whatever stands in its logits (NaN too).
    If all are ignored, the loss is 0, with a gradient of zeros.

    Raises `ValueError` if `targets.shape` is not `logits.shape[:-1]`, or if a target that is not ignored lies
    outside 0 ... vocab - 1 (the message names it).
    """
    if targets.shape != logits.shape[:-1]:
        raise ValueError(f"targets {tuple(targets.shape)} do not fit logits {tuple(logits.shape)}: one target per row of logits")
    counted = targets != ignore_index
    rows, wanted = logits[counted], targets[counted]
    outside = (wanted < 0) | (wanted >= logits.shape[-1])
    if outside.any():
        raise ValueError(f"target {wanted[outside][0].item()} is outside 0 ... {logits.shape[-1] - 1}")
    picked = log_softmax(rows).gather(-1, wanted.unsqueeze(-1))
    return -picked.sum() / max(targets.numel(), 1)


@mistake("XENT-02", "padding is clamped to token 0 and counted")
def cross_entropy(logits, targets, ignore_index=-100):
    if targets.shape != logits.shape[:-1]:
        raise ValueError("shapes do not fit")
    targets = targets.masked_fill(targets == ignore_index, 0)
    return -log_softmax(logits).gather(-1, targets.unsqueeze(-1)).mean()


@mistake("XENT-03", "a sum, not a mean")
def cross_entropy(logits, targets, ignore_index=-100):
    if targets.shape != logits.shape[:-1]:
        raise ValueError("shapes do not fit")
    counted = targets != ignore_index
    rows, wanted = logits[counted], targets[counted]
    return -log_softmax(rows).gather(-1, wanted.unsqueeze(-1)).sum()


@mistake("XENT-04", "nothing but padding: 0 / 0")
def cross_entropy(logits, targets, ignore_index=-100):
    if targets.shape != logits.shape[:-1]:
        raise ValueError("shapes do not fit")
    counted = targets != ignore_index
    rows, wanted = logits[counted], targets[counted]
    return -log_softmax(rows).gather(-1, wanted.unsqueeze(-1)).mean()


@mistake("XENT-05", "padding is multiplied by 0, and 0 times NaN is NaN")
def cross_entropy(logits, targets, ignore_index=-100):
    if targets.shape != logits.shape[:-1]:
        raise ValueError("shapes do not fit")
    counted = targets != ignore_index
    safe = targets.masked_fill(~counted, 0)
    log_probs = log_softmax(logits).gather(-1, safe.unsqueeze(-1)).squeeze(-1)
    return -(log_probs * counted).sum() / counted.sum().clamp(min=1)


@mistake("XENT-06", "shapes that do not fit are flattened and cut")
def cross_entropy(logits, targets, ignore_index=-100):
    logits, targets = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
    length = min(len(logits), len(targets))
    logits, targets = logits[:length], targets[:length]
    counted = targets != ignore_index
    rows, wanted = logits[counted], targets[counted]
    return -log_softmax(rows).gather(-1, wanted.unsqueeze(-1)).sum() / max(len(wanted), 1)


@mistake("XENT-07", "a negative target silently counts from the end")
def cross_entropy(logits, targets, ignore_index=-100):
    if targets.shape != logits.shape[:-1]:
        raise ValueError("shapes do not fit")
    counted = targets != ignore_index
    rows, wanted = logits[counted], targets[counted]
    if (wanted >= logits.shape[-1]).any():
        raise ValueError(f"target {wanted.max().item()} is outside the vocabulary")
    return -log_softmax(rows)[torch.arange(len(wanted)), wanted].sum() / max(len(wanted), 1)


@mistake("XENT-08", "the sign is missing")
def cross_entropy(logits, targets, ignore_index=-100):
    if targets.shape != logits.shape[:-1]:
        raise ValueError("shapes do not fit")
    counted = targets != ignore_index
    rows, wanted = logits[counted], targets[counted]
    return log_softmax(rows).gather(-1, wanted.unsqueeze(-1)).sum() / max(len(wanted), 1)


@correct("one-hot vectors over the flat rows that count")
def cross_entropy(logits, targets, ignore_index=-100):
    vocab = logits.size(-1)
    if tuple(targets.size()) != tuple(logits.size())[:-1]:
        raise ValueError(f"one target per row: {tuple(targets.size())} against {tuple(logits.size())}")
    index = (targets.reshape(-1) != ignore_index).nonzero().squeeze(-1)
    chosen = targets.reshape(-1).index_select(0, index)
    for target in chosen.tolist():
        if not 0 <= target < vocab:
            raise ValueError(f"target {target} is not below {vocab}")
    rows = logits.reshape(-1, vocab).index_select(0, index)
    one_hot = chosen.unsqueeze(1) == torch.arange(vocab).unsqueeze(0)
    surprise = -log_softmax(rows, dim=1).masked_select(one_hot)
    return surprise.mean() if len(surprise) else rows.sum()


@mistake("SGD-01", "the decay is added into grad itself")
def sgd_step(param, grad, momentum_buffer, *, lr, momentum=0.0, weight_decay=0.0):
    grad.add_(param, alpha=weight_decay)
    momentum_buffer.mul_(momentum).add_(grad)
    param.sub_(momentum_buffer, alpha=lr)


@mistake("SGD-02", "param is a new tensor, the old one stays as it was")
def sgd_step(param, grad, momentum_buffer, *, lr, momentum=0.0, weight_decay=0.0):
    momentum_buffer.mul_(momentum).add_(grad + weight_decay * param)
    param = param - lr * momentum_buffer
    return param


@mistake("SGD-07", "the buffer is the newest gradient alone")
def sgd_step(param, grad, momentum_buffer, *, lr, momentum=0.0, weight_decay=0.0):
    momentum_buffer.copy_(grad + weight_decay * param)
    param.sub_(momentum_buffer, alpha=lr)


@mistake("SGD-08", "the buffer is a new tensor: momentum forgets")
def sgd_step(param, grad, momentum_buffer, *, lr, momentum=0.0, weight_decay=0.0):
    momentum_buffer = momentum * momentum_buffer + grad + weight_decay * param
    param -= lr * momentum_buffer


@mistake("SGD-03", "momentum as a running average, as in Adam")
def sgd_step(param, grad, momentum_buffer, *, lr, momentum=0.0, weight_decay=0.0):
    momentum_buffer.mul_(momentum).add_(grad + weight_decay * param, alpha=1 - momentum)
    param.sub_(momentum_buffer, alpha=lr)


@mistake("SGD-04", "lr inside the buffer: a change of lr comes late")
def sgd_step(param, grad, momentum_buffer, *, lr, momentum=0.0, weight_decay=0.0):
    momentum_buffer.mul_(momentum).add_(grad + weight_decay * param, alpha=lr)
    param.sub_(momentum_buffer)


@mistake("SGD-05", "decay apart from the gradient, as in AdamW")
def sgd_step(param, grad, momentum_buffer, *, lr, momentum=0.0, weight_decay=0.0):
    param.mul_(1 - lr * weight_decay)
    momentum_buffer.mul_(momentum).add_(grad)
    param.sub_(momentum_buffer, alpha=lr)


@mistake("SGD-06", "uphill")
def sgd_step(param, grad, momentum_buffer, *, lr, momentum=0.0, weight_decay=0.0):
    momentum_buffer.mul_(momentum).add_(grad + weight_decay * param)
    param.add_(momentum_buffer, alpha=lr)


@correct("plain arithmetic, copied into place")
def sgd_step(param, grad, momentum_buffer, *, lr, momentum=0.0, weight_decay=0.0):
    d = grad if weight_decay == 0 else grad + weight_decay * param
    momentum_buffer.copy_(momentum * momentum_buffer + d)
    param.copy_(param - lr * momentum_buffer)


@mistake("ADAMW-01", "the gradient is squared in place")
def adamw_step(param, grad, exp_avg, exp_avg_sq, step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    if step < 1:
        raise ValueError(f"step counts from 1, got {step}")
    b1, b2 = betas
    param.mul_(1 - lr * weight_decay)
    exp_avg.mul_(b1).add_(grad, alpha=1 - b1)
    exp_avg_sq.mul_(b2).add_(grad.mul_(grad), alpha=1 - b2)
    param.sub_(lr * (exp_avg / (1 - b1**step)) / ((exp_avg_sq / (1 - b2**step)).sqrt() + eps))


@mistake("ADAMW-02", "param is a new tensor, the old one stays as it was")
def adamw_step(param, grad, exp_avg, exp_avg_sq, step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    if step < 1:
        raise ValueError(f"step counts from 1, got {step}")
    b1, b2 = betas
    exp_avg.mul_(b1).add_(grad, alpha=1 - b1)
    exp_avg_sq.mul_(b2).addcmul_(grad, grad, value=1 - b2)
    m, v = exp_avg / (1 - b1**step), exp_avg_sq / (1 - b2**step)
    param = param * (1 - lr * weight_decay) - lr * m / (v.sqrt() + eps)


@mistake("ADAMW-03", "L2: the decay goes through the gradient")
def adamw_step(param, grad, exp_avg, exp_avg_sq, step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    if step < 1:
        raise ValueError(f"step counts from 1, got {step}")
    b1, b2 = betas
    grad = grad + weight_decay * param
    exp_avg.mul_(b1).add_(grad, alpha=1 - b1)
    exp_avg_sq.mul_(b2).addcmul_(grad, grad, value=1 - b2)
    m, v = exp_avg / (1 - b1**step), exp_avg_sq / (1 - b2**step)
    param.sub_(lr * m / (v.sqrt() + eps))


@mistake("ADAMW-04", "no correction for averages that start at zero")
def adamw_step(param, grad, exp_avg, exp_avg_sq, step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    if step < 1:
        raise ValueError(f"step counts from 1, got {step}")
    b1, b2 = betas
    param.mul_(1 - lr * weight_decay)
    exp_avg.mul_(b1).add_(grad, alpha=1 - b1)
    exp_avg_sq.mul_(b2).addcmul_(grad, grad, value=1 - b2)
    param.sub_(lr * exp_avg / (exp_avg_sq.sqrt() + eps))


@mistake("ADAMW-05", "step counted from 0: the correction is one step late")
def adamw_step(param, grad, exp_avg, exp_avg_sq, step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    if step < 1:
        raise ValueError(f"step counts from 1, got {step}")
    b1, b2 = betas
    param.mul_(1 - lr * weight_decay)
    exp_avg.mul_(b1).add_(grad, alpha=1 - b1)
    exp_avg_sq.mul_(b2).addcmul_(grad, grad, value=1 - b2)
    m, v = exp_avg / (1 - b1 ** (step + 1)), exp_avg_sq / (1 - b2 ** (step + 1))
    param.sub_(lr * m / (v.sqrt() + eps))


@mistake("ADAMW-06", "eps inside the square root")
def adamw_step(param, grad, exp_avg, exp_avg_sq, step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    if step < 1:
        raise ValueError(f"step counts from 1, got {step}")
    b1, b2 = betas
    param.mul_(1 - lr * weight_decay)
    exp_avg.mul_(b1).add_(grad, alpha=1 - b1)
    exp_avg_sq.mul_(b2).addcmul_(grad, grad, value=1 - b2)
    m, v = exp_avg / (1 - b1**step), exp_avg_sq / (1 - b2**step)
    param.sub_(lr * m / (v + eps).sqrt())


@mistake("ADAMW-07", "the decay is not multiplied by lr")
def adamw_step(param, grad, exp_avg, exp_avg_sq, step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    if step < 1:
        raise ValueError(f"step counts from 1, got {step}")
    b1, b2 = betas
    param.mul_(1 - weight_decay)
    exp_avg.mul_(b1).add_(grad, alpha=1 - b1)
    exp_avg_sq.mul_(b2).addcmul_(grad, grad, value=1 - b2)
    m, v = exp_avg / (1 - b1**step), exp_avg_sq / (1 - b2**step)
    param.sub_(lr * m / (v.sqrt() + eps))


@mistake("ADAMW-08", "step 0 is let through")
def adamw_step(param, grad, exp_avg, exp_avg_sq, step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    b1, b2 = betas
    param.mul_(1 - lr * weight_decay)
    exp_avg.mul_(b1).add_(grad, alpha=1 - b1)
    exp_avg_sq.mul_(b2).addcmul_(grad, grad, value=1 - b2)
    m, v = exp_avg / (1 - b1 ** max(step, 1)), exp_avg_sq / (1 - b2 ** max(step, 1))
    param.sub_(lr * m / (v.sqrt() + eps))


@mistake("ADAMW-10", "beta1 and beta2 exchanged")
def adamw_step(param, grad, exp_avg, exp_avg_sq, step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    if step < 1:
        raise ValueError(f"step counts from 1, got {step}")
    b2, b1 = betas
    param.mul_(1 - lr * weight_decay)
    exp_avg.mul_(b1).add_(grad, alpha=1 - b1)
    exp_avg_sq.mul_(b2).addcmul_(grad, grad, value=1 - b2)
    m, v = exp_avg / (1 - b1**step), exp_avg_sq / (1 - b2**step)
    param.sub_(lr * m / (v.sqrt() + eps))


@mistake("ADAMW-11", "div_ in place: corrected again at every step")
def adamw_step(param, grad, exp_avg, exp_avg_sq, step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    if step < 1:
        raise ValueError(f"step counts from 1, got {step}")
    b1, b2 = betas
    param.mul_(1 - lr * weight_decay)
    m = exp_avg.mul_(b1).add_(grad, alpha=1 - b1).div_(1 - b1**step)
    v = exp_avg_sq.mul_(b2).addcmul_(grad, grad, value=1 - b2).div_(1 - b2**step)
    param.sub_(lr * m / (v.sqrt() + eps))


@correct("one expression each, copied into place; the corrections folded into the step size")
def adamw_step(param, grad, exp_avg, exp_avg_sq, step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    if not step >= 1:
        raise ValueError(f"the first step is 1, not {step}")
    exp_avg.copy_(betas[0] * exp_avg + (1 - betas[0]) * grad)
    exp_avg_sq.copy_(betas[1] * exp_avg_sq + (1 - betas[1]) * grad.square())
    root = (1 - betas[1] ** step) ** 0.5
    size = lr * root / (1 - betas[0] ** step)
    param.copy_(param - lr * weight_decay * param - size * exp_avg / (exp_avg_sq.sqrt() + eps * root))
