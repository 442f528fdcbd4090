"""The text from which the word model learns.

Its sentences share phrases on purpose: where two sentences have two words in common, the model can
change from one to the other. This is why the generated text depends on the seed.
"""

from __future__ import annotations

__all__ = ["TEXT"]

TEXT = """\
Machine learning is the craft of writing programs that improve with experience. Machine learning
is a part of computer science in which a program finds the rules in examples. Instead of being
told the rules, a learning program is shown many examples and finds the rules by itself. A model
is a function with many numbers inside it, and training is the search for good numbers. During
training, the model makes a guess, the guess is compared with the answer, and the numbers are
moved a little. After many small steps the guesses become good enough to be useful. The model is
then tested on examples that it has never seen. A model that only remembers its examples is of no
use on new data. Good data is worth more than a clever model, and clean data is worth more than a
lot of data. Most of the work in machine learning is the patient work of looking at the data.

A neural network is a model made of many simple units that are joined in layers. Each layer takes
the numbers of the layer before it and passes its own numbers on. Deep learning is machine
learning with a neural network of many layers. Deep learning needs a lot of data and a lot of
computing power. The weights of a network are the numbers that training moves. When the weights
are good, the network can name a picture or finish a sentence.

A language model is a network that has learned to guess the next word of a text. A language model
reads the prompt, guesses the next word, and adds that word to the text. The model reads the text
in small pieces that are called tokens. A token is a word or a part of a word. The answer grows
one token at a time until the model decides to stop. With a low temperature the model takes the
most likely token, and with a high temperature it takes more chances. The same seed gives the same
answer, which is useful in a test. A prompt is the text that the model is asked to continue. A
good prompt is short, says what is wanted, and shows an example of a good answer. A large language
model can answer a question, write a program, or call a tool. The model does not know whether the
answer is true, so a careful reader checks it.

Inference is the work of running a model that has already been trained. A server keeps the model
in memory and answers the requests of many clients. The client sends a request over the network
and the server sends the answer back. The server puts many requests together in a batch, because a
batch uses the hardware better. A request that has to wait is kept in a queue until there is room
in the batch. A busy server may refuse a request, and a good client tries again a little later.
Streaming means that the server sends each token as soon as the token is ready. With streaming the
reader sees the first words at once and does not have to wait for the last word. A stream that
ends early is not a whole answer, and a good client says so. The client closes the connection when
it has read enough, and the server stops the work at once. The time to the first token tells how
long a reader has to wait. Throughput is the number of tokens that the server sends in a second.
The cache of the server holds what the model has already read, so the same prompt is cheaper the
second time.

A network joins computers so that they can send messages to each other. A message is cut into
packets, and each packet finds its own way through the network. The packets may arrive late or be
lost, so the computers count them and ask for the lost packets again. A connection is an agreement
between two computers to keep count of the packets. A protocol is a set of rules that both sides
of a connection follow. A server waits for a connection, reads the request, and sends the answer.
A slow network makes a fast server look slow. A timeout is the time after which a client no longer
waits for the server. Every client needs a timeout, because a connection may fall silent without a
word.

Python is a language in which a program can be short and clear. A good program is easy to read,
easy to test, and easy to change. A test is a small program that checks another program. A good
test fails when the program is wrong and passes when the program is right. A good library does one
thing well and says plainly what went wrong. Clear names and short functions help the next reader
more than a clever comment. The weather in Paris is often mild, while Oslo is cold for a large
part of the year. It is often useful to look out of the window before looking at the data.
"""
