def read(image, choice, *, free, engines):
    return choice, engines.get(choice.engine).read(image, languages=("en",))
